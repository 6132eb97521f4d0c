"""`configure`, in processes of its own."""

import sys
from pathlib import Path
from typing import Any

import pytest

ONE_CHAT = """
    from opentelemetry import trace
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o"}
    trace.get_tracer("app").start_span("chat gpt-4o", attributes=attributes).end()
"""
CONFIGURED = "from spanledger.exporter import configure\n    handle = configure()\n" + ONE_CHAT


def test_one_call_is_enough_and_no_span_needs_a_flush(program: Any, rows: Any) -> None:
    done = program(
        f"    {CONFIGURED}", OTEL_SERVICE_NAME="shop", OTEL_RESOURCE_ATTRIBUTES="deployment.environment=test"
    )
    assert (done.returncode, done.stderr) == (0, "")
    (row,) = rows("llm_call_logs")
    assert (row["model_id"], row["service_name"], row["environment"]) == ("gpt-4o", "shop", "test")


def test_configuring_twice_changes_nothing(program: Any, rows: Any) -> None:
    done = program(f"""
    {CONFIGURED}
    assert configure("sqlite:///other.db") is handle
    """)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(rows("llm_call_logs")) == 1


def test_a_provider_that_is_already_set_is_extended(program: Any, rows: Any) -> None:
    done = program(f"""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    mine = TracerProvider()
    trace.set_tracer_provider(mine)
    {CONFIGURED}
    assert handle.tracer_provider is trace.get_tracer_provider() is mine
    """)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(rows("llm_call_logs")) == 1


def test_four_hundred_attributes_do_not_push_the_model_out(program: Any, rows: Any) -> None:
    done = program("""
    from opentelemetry import trace
    from spanledger.exporter import configure
    configure(instrument=False)
    span = trace.get_tracer("app").start_span("chat", attributes={"gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o"})
    for number in range(400):
        span.set_attribute(f"app.extra.{number}", number)
    span.end()
    """)
    assert (done.returncode, done.stderr) == (0, "")
    (row,) = rows("llm_call_logs")
    assert row["model_id"] == "gpt-4o"
    assert row["dropped_attributes"] in (0, None)


def test_every_span_of_an_execution_carries_its_ids_whoever_starts_it(program: Any, rows: Any) -> None:
    done = program(f"""
    from spanledger.instrumentation import execution
    from spanledger.exporter import configure
    configure(instrument=False)
    with execution("planner", "plan", execution_id="exec_7", session_id="s1"):
        {ONE_CHAT.strip().replace(chr(10), chr(10) + "    ")}
    """)
    assert (done.returncode, done.stderr) == (0, "")
    (row,) = rows("llm_call_logs")
    assert (row["execution_id"], row["session_id"]) == ("exec_7", "s1")


@pytest.mark.parametrize(
    ("sampler", "sent"), [("always_off", []), ("parentbased_always_off", []), ("always_on", ["chat gpt-4o"])]
)
def test_the_sampler_thins_out_what_others_get_and_never_the_ledger(
    program: Any, rows: Any, sink: Any, sampler: str, sent: list[str]
) -> None:
    done = program(
        f"    {CONFIGURED}",
        OTEL_EXPORTER_OTLP_ENDPOINT=sink.url,
        OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
        OTEL_TRACES_SAMPLER=sampler,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(rows("llm_call_logs")) == 1
    assert sink.names == sent


def test_an_endpoint_given_in_code_gets_the_spans_too(program: Any, rows: Any, sink: Any) -> None:
    done = program(f"""
    from spanledger.exporter import configure
    configure(otlp_endpoint="{sink.url}", instrument=False)
    {ONE_CHAT}
    """)
    assert (done.returncode, done.stderr) == (0, "")
    assert sink.names == ["chat gpt-4o"]
    assert len(rows("llm_call_logs")) == 1


def test_an_exporter_that_does_not_exist_is_a_warning(program: Any, rows: Any) -> None:
    done = program(f"    {CONFIGURED}", OTEL_TRACES_EXPORTER="carrier-pigeon,spanledger")
    assert done.returncode == 0
    assert "carrier-pigeon" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(rows("llm_call_logs")) == 1


def test_every_installed_instrumentor_is_found_and_a_broken_one_is_one_warning(
    program: Any, tmp_path: Path, environment: dict[str, str]
) -> None:
    _install(tmp_path, "works", "Works")
    _install(tmp_path, "breaks", "Breaks")
    (tmp_path / "made_up_instrumentors.py").write_text("""
class Works:
    def instrument(self, **kwargs):
        print("works")

class Breaks:
    def instrument(self, **kwargs):
        raise RuntimeError("it never worked")
""")
    source = "from spanledger.exporter import configure; print(configure().instrumented)"
    done = program(source, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0
    assert "works" in done.stdout.splitlines()
    assert "'works'" in done.stdout
    assert "'breaks'" not in done.stdout
    assert "instrumentation breaks failed and is skipped: it never worked" in done.stderr
    assert "Traceback" not in done.stderr
    done = program(source, PYTHONPATH=str(tmp_path), OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="breaks, works, sqlalchemy")
    assert "works" not in done.stdout
    assert done.stderr == ""


def test_our_own_writes_make_no_spans_though_the_database_is_instrumented(program: Any, rows: Any) -> None:
    done = program(f"""
    {CONFIGURED}
    import sqlite3
    assert "sqlite3" in handle.instrumented
    assert handle.force_flush()
    sqlite3.connect("app.db").cursor().execute("CREATE TABLE mine (x)")  # the application's own statement is seen
    for _ in range(3):
        assert handle.force_flush()
    assert handle.delivery == (2, {{}}), handle.delivery
    """)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(rows("llm_call_logs")) == 1


def test_a_forked_child_records_its_own_spans_once(program: Any, rows: Any) -> None:
    done = program("""
    import os, sys, warnings
    from opentelemetry import trace
    from spanledger.exporter import configure
    warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: forking a process that has threads
    handle = configure(instrument=False)
    tracer = trace.get_tracer("app")
    chat = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o"}
    tracer.start_span("parent before", attributes=chat).end()
    assert handle.force_flush()
    tracer.start_span("parent queued", attributes=chat).end()
    if (child := os.fork()) == 0:
        tracer.start_span("child", attributes=chat).end()
        sys.exit()
    assert os.waitpid(child, 0)[1] == 0
    tracer.start_span("parent after", attributes=chat).end()
    """)
    assert (done.returncode, done.stderr) == (0, "")
    names = [row["name"] for row in rows("llm_call_logs")]
    assert sorted(names) == ["child", "parent after", "parent before", "parent queued"]


def test_a_setting_that_cannot_be_read_is_named(program: Any) -> None:
    done = program("import spanledger.exporter as e; e.configure()", SPANLEDGER_CONTENT="everything")
    assert done.stderr.splitlines()[-1].endswith("SPANLEDGER_CONTENT is 'everything'; use full, metadata or none.")


def test_use_database_is_found_by_its_entry_point_and_yields_to_configure(program: Any, database: Path) -> None:
    done = program("""
    from importlib.metadata import entry_points
    (entry,) = entry_points(group="spanledger_database", name="configure")
    use_database = entry.load()
    handle = use_database("sqlite:///mine.db")
    from spanledger.exporter import configure
    assert configure() is handle is use_database("sqlite:///other.db")
    assert handle.instrumented == []
    """)
    assert (done.returncode, done.stderr) == (0, "")
    assert not database.exists()


def test_opentelemetry_instrument_finds_the_exporter_by_its_name(program: Any, rows: Any) -> None:
    done = program(
        ONE_CHAT,
        before=(str(Path(sys.executable).with_name("opentelemetry-instrument")), sys.executable),
        OTEL_TRACES_EXPORTER="spanledger",
        OTEL_METRICS_EXPORTER="none",
        OTEL_LOGS_EXPORTER="none",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(rows("llm_call_logs")) == 1


def _install(folder: Path, name: str, attribute: str) -> None:
    """The metadata of a distribution that offers an instrumentor."""
    info = folder / f"made_up_{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: made-up-{name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[opentelemetry_instrumentor]\n{name} = made_up_instrumentors:{attribute}\n"
    )
