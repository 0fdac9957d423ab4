"""Schedule words: what they mean, what is refused, and when nothing runs."""

from datetime import UTC, date, datetime
from typing import Any

import dagster as dg
import pytest
from pydantic import ValidationError

from datalake_assets.components.scheduling import ALIASES, Schedule, build_trigger


@dg.op
def nothing() -> None: ...


@dg.job
def load() -> None:
    nothing()


def trigger(schedule: Schedule, **options: Any) -> dg.Definitions:
    return build_trigger(name="load_it", job=load, schedule=schedule, running=True, **options)


def tick(definitions: dg.Definitions, moment: datetime) -> dg.SensorEvaluationContext | Any:
    with dg.build_schedule_context(scheduled_execution_time=moment) as context:
        return next(iter(definitions.schedules or [])).evaluate_tick(context)


@pytest.mark.parametrize("word", [*ALIASES, "0 5 1 * *", "*/10 * * * 1-5"])
def test_words_and_cron_expressions_become_schedules(word):
    (schedule,) = trigger(Schedule.model_validate(word)).schedules
    assert schedule.cron_schedule == ALIASES.get(word, word)
    assert schedule.execution_timezone == "America/New_York"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("@fortnightly", "use one of @hourly, @daily"),
        ("5 1 * *", "cron expression of five fields"),
        ("99 * * * *", "cron expression of five fields"),
        ({"cron": "@daily", "timezone": "Mars/Base"}, "no time zone 'Mars/Base'"),
        ({"cron": "@daily", "start": "2020-01-02", "end": "2020-01-01"}, "before it starts"),
        ({"cron": "@daily", "until": "2020-01-01"}, "until"),
    ],
)
def test_nonsense_is_refused_with_a_sentence(given, said):
    with pytest.raises(ValidationError, match=said):
        Schedule.model_validate(given)


@pytest.mark.parametrize(
    ("moment", "runs"),
    [
        (datetime(2020, 1, 1, 4, 59, tzinfo=UTC), False),  # the evening before in New York
        (datetime(2020, 1, 1, 5, 0, tzinfo=UTC), True),
        (datetime(2020, 2, 1, 4, 59, tzinfo=UTC), True),
        (datetime(2020, 2, 1, 5, 0, tzinfo=UTC), False),
    ],
)
def test_nothing_runs_before_the_start_and_after_the_end(moment, runs):
    schedule = Schedule(cron="@daily", start=date(2020, 1, 1), end=date(2020, 1, 31))
    assert bool(tick(trigger(schedule), moment).run_requests) is runs


def test_the_hour_that_comes_twice_asks_for_one_run():
    definitions = trigger(Schedule(cron="30 1 * * *"))
    ticks = [tick(definitions, datetime(2026, 11, 1, hour, 30, tzinfo=UTC)) for hour in (5, 6)]
    assert len({each.run_requests[0].run_key for each in ticks}) == 1


def test_once_means_once():
    (sensor,) = trigger(Schedule(cron="@once")).sensors
    with dg.DagsterInstance.ephemeral() as instance:
        first = sensor.evaluate_tick(dg.build_sensor_context(instance=instance))
        assert len(first.run_requests) == 1
        second = sensor.evaluate_tick(dg.build_sensor_context(instance=instance, cursor=first.cursor))
        assert not second.run_requests
