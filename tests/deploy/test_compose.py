"""What docker-compose.yml promises: pinned, healthy in order, and reachable from this machine only."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from spanledger.exporter.settings import PREFIX, Settings
from spanledger.query_api.cli import parser


def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose["services"]
    return found


def test_the_file_conforms_to_the_compose_specification(root: Path, tool: Callable[[str], Path]) -> None:
    # Interpolation is the tests' own matter below: the reference tool does not read its environment.
    command: list[str | Path] = [tool("compose-spec"), "-no-interpolation", root / "docker-compose.yml"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr


def test_every_port_is_published_on_loopback_only(compose: dict[str, Any]) -> None:
    ports = [port for service in services(compose).values() for port in service.get("ports", ())]
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_the_database_is_not_published_at_all(compose: dict[str, Any]) -> None:
    assert "ports" not in services(compose)["postgres"]


def test_every_image_is_pinned_to_a_full_version(compose: dict[str, Any]) -> None:
    for name, service in services(compose).items():
        assert re.search(r":\d+\.\d+(\.\d+)?$", service["image"]), name


def test_the_collector_is_the_version_the_tests_build(compose: dict[str, Any], root: Path) -> None:
    image = services(compose)["collector"]["image"]
    version = "v" + image.partition(":")[2]
    manifest = yaml.safe_load((root / "tests/e2e/builder.yaml").read_text())
    built = {
        component["gomod"].split()[1]
        for part in ("receivers", "exporters", "processors")
        for component in manifest[part]
    }
    assert built == {version}
    assert f"collector_version={version}\n" in (root / "tests/e2e/build_tools.sh").read_text()


def test_every_lasting_service_has_a_healthcheck_but_the_one_without_a_shell(
    compose: dict[str, Any], root: Path
) -> None:
    lasting = {name for name, service in services(compose).items() if "restart" in service}
    checked = {name for name, service in services(compose).items() if "test" in service.get("healthcheck", {})}
    assert "HEALTHCHECK" in (root / "Dockerfile").read_text()
    assert lasting - checked == {"collector", "spanledger"}, "spanledger's is in its image, the Collector's cannot be"


def test_services_start_after_what_they_need_in_a_state_that_exists(compose: dict[str, Any]) -> None:
    for name, service in services(compose).items():
        for needed, how in service.get("depends_on", {}).items():
            other = services(compose)[needed]
            if how["condition"] == "service_completed_successfully":
                assert "restart" not in other, f"{name} waits for the end of {needed}, which never ends"
            else:
                assert how["condition"] == "service_healthy"
                assert "test" in other["healthcheck"], f"{name} waits for the health of {needed}, which has no check"


def test_volumes_that_are_used_are_declared_and_files_that_are_mounted_exist(
    compose: dict[str, Any], root: Path
) -> None:
    used = {volume.split(":")[0] for service in services(compose).values() for volume in service.get("volumes", ())}
    files = {name for name in used if name.startswith(".")}
    assert used - files == set(compose["volumes"])
    assert all((root / name).is_file() for name in files)


def test_the_collectors_queue_lives_in_a_volume_its_user_owns(compose: dict[str, Any]) -> None:
    collector, owner = services(compose)["collector"], services(compose)["collector-queue-owner"]
    target = collector["environment"]["COLLECTOR_QUEUE_DIR"]
    mount = f"collector-queue:{target}"
    assert mount in collector["volumes"]
    assert mount in owner["volumes"]
    assert owner["command"] == ["chown", "10001:10001", target]
    assert "collector-queue-owner" in collector["depends_on"]


def test_addresses_between_services_name_services_and_the_ports_they_listen_on(compose: dict[str, Any]) -> None:
    environment = services(compose)["collector"]["environment"]
    assert environment["SPANLEDGER_ENDPOINT"] == f"http://spanledger:{Settings().port}"
    assert environment["JAEGER_ENDPOINT"] == "jaeger:4317"
    assert services(compose)["migrate"]["environment"] == {
        name: value
        for name, value in services(compose)["spanledger"]["environment"].items()
        if name not in ("SPANLEDGER_JAEGER_URL", "SPANLEDGER_ALLOWED_HOSTS")
    }


def test_the_service_is_open_to_nobody_without_a_key_and_the_collector_shows_one(
    compose: dict[str, Any], collector: dict[str, Any]
) -> None:
    assert services(compose)["spanledger"]["command"] == ["serve", "--host", "0.0.0.0"]
    assert services(compose)["spanledger"]["depends_on"]["keys"] == {"condition": "service_completed_successfully"}
    made, given = services(compose)["keys"], services(compose)["collector"]["environment"]["SPANLEDGER_KEY"]
    arguments = parser().parse_args(made["command"])
    assert (arguments.deed, arguments.scope, arguments.token_variable) == ("create", ["ingest"], "COLLECTOR_KEY")
    assert made["environment"]["COLLECTOR_KEY"] == given
    header = collector["exporters"]["otlp_http/spanledger"]["headers"]["authorization"]
    assert header.startswith("Bearer ${env:SPANLEDGER_KEY:-")
    host = services(compose)["collector"]["environment"]["SPANLEDGER_ENDPOINT"].split("/")[2].split(":")[0]
    allowed = services(compose)["spanledger"]["environment"]["SPANLEDGER_ALLOWED_HOSTS"]
    assert Settings(allowed_hosts=allowed).hosts == [host]


def test_the_variables_given_to_services_are_ones_they_read(compose: dict[str, Any], root: Path) -> None:
    config = (root / "collector-config.yaml").read_text()
    ours = {f"{PREFIX}{name.upper()}" for name in Settings.__dataclass_fields__}
    for name in services(compose)["spanledger"]["environment"]:
        assert name in ours | {"PGPASSWORD"}
    for name in services(compose)["collector"]["environment"]:
        assert name == "GOMEMLIMIT" or f"${{env:{name}:-" in config, name


def test_every_variable_the_file_asks_for_is_in_the_example_and_no_password_is_written_down(root: Path) -> None:
    text = (root / "docker-compose.yml").read_text()
    asked = set(re.findall(r"\$\{([A-Z_]+)", text))
    example = dict(
        line.split("=", 1) for line in (root / ".env.example").read_text().splitlines() if line and line[0] != "#"
    )
    assert asked == set(example)
    assert example["POSTGRES_PASSWORD"] == example["COLLECTOR_KEY"] == ""
    assert text.count("PASSWORD: ${POSTGRES_PASSWORD:?") == 2
    assert text.count("_KEY: ${COLLECTOR_KEY:?") == 2
