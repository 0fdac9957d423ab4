-- The index of a key that is declared no more.
drop index {{ index | table }}
