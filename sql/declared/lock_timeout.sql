-- How long the next statements of this transaction wait for a lock. $1: e.g. 400ms.
select set_config('lock_timeout', $1, true)
