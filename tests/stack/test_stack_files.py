"""The files around weir: container, compose, collector, Prometheus, Tempo, Grafana. Without engines, by form."""

import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from support.installs import require_package
from weir.config.model import Listen

ROOT = Path(__file__).parents[2]
# of the collector's contrib distribution 0.159, as far as they are used or likely to be
COLLECTOR_TYPES = {
    "receivers": {"otlp", "prometheus"},
    "processors": {"memory_limiter", "tail_sampling", "filter", "transform", "resource", "attributes"},
    "exporters": {"otlp_grpc", "otlp_http", "debug", "file"},
    "extensions": {"health_check", "zpages", "pprof"},
}


def loaded(path: str) -> Any:
    """A YAML file of the project."""
    return yaml.safe_load((ROOT / path).read_text())


def test_the_dashboard_is_the_one_its_generator_writes() -> None:
    """Else: python grafana/dashboard.py."""
    assert runpy.run_path(str(ROOT / "grafana/dashboard.py"))["text"]() == (
        ROOT / "grafana/dashboards/weir.json"
    ).read_text(encoding="utf-8")


def test_promtool_accepts_the_prometheus_configuration() -> None:
    """Debian's is older than the image's: what it knows, both know."""
    require_package("promtool", "prometheus")
    subprocess.run(["promtool", "check", "config", ROOT / "grafana/prometheus/prometheus.yml"], check=True)


def test_docker_compose_accepts_the_compose_file() -> None:
    """An old one too."""
    require_package("docker-compose", "docker-compose")
    done = subprocess.run(["docker-compose", "config"], cwd=ROOT, check=True, capture_output=True)
    assert "http://demo-server:8000/mcp" in done.stdout.decode()


def test_nothing_of_the_stack_is_reachable_from_elsewhere() -> None:
    """Every published port is on the loopback."""
    services = loaded("docker-compose.yml")["services"]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert [] == [port for port in ports if not port.startswith("127.0.0.1:")]


def test_images_are_pinned() -> None:
    """By a full version; weir's own is built here."""
    services = loaded("docker-compose.yml")["services"]
    images = {service["image"] for service in services.values()} - {"weir"}
    assert images
    assert [] == [image for image in images if not re.search(r":v?\d+\.\d+\.\d+(@sha256:[0-9a-f]{64})?$", image)]
    assert re.search(r"^ARG PYTHON_IMAGE=python:\d+\.\d+\.\d+-", (ROOT / "Dockerfile").read_text(), re.MULTILINE)


def test_grafana_has_no_administrator_and_no_login() -> None:
    """Anonymous viewers only: its well-known first password must open nothing."""
    grafana = loaded("docker-compose.yml")["services"]["grafana"]["environment"]
    expected = {
        "GF_AUTH_ANONYMOUS_ORG_ROLE": "Viewer",
        "GF_AUTH_BASIC_ENABLED": "false",
        "GF_AUTH_DISABLE_LOGIN_FORM": "true",
        "GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION": "true",
        "GF_USERS_ALLOW_SIGN_UP": "false",
    }
    assert expected == {key: grafana.get(key) for key in expected}


DIGEST = "sha256:" + "0123456789abcdef" * 4


def test_images_are_pinned_to_the_digests_that_the_registry_names() -> None:
    """And to those of later, when it is done again; an image that is built here has none."""
    pin = runpy.run_path(str(ROOT / "grafana/pin_images.py"))
    text = f"a:\n  image: weir\nb:\n  image: x/a:1.2.3\nc:\n  image: b:v1@{DIGEST}\nARG A_IMAGE=c:3-slim\n"
    found = {"x/a:1.2.3": DIGEST, "b:v1": DIGEST[:-1] + "0", "c:3-slim": DIGEST}
    expected = (
        f"a:\n  image: weir\nb:\n  image: x/a:1.2.3@{DIGEST}\nc:\n  image: b:v1@{DIGEST[:-1]}0\n"
        f"ARG A_IMAGE=c:3-slim@{DIGEST}\n"
    )
    assert expected == pin["pinned"](text, found.__getitem__)


def test_without_a_registry_no_image_is_pinned(tmp_path: Path) -> None:
    """No digest is made up, and the files stay as they are."""
    files = [ROOT / "docker-compose.yml", ROOT / "Dockerfile"]
    before = [file.read_bytes() for file in files]
    argv = [sys.executable, str(ROOT / "grafana/pin_images.py")]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, env={"PATH": str(tmp_path)})
    assert (1, True) == (done.returncode, "nothing was changed" in done.stderr)
    assert "skopeo: not installed" in done.stderr
    assert before == [file.read_bytes() for file in files]


def test_every_mounted_file_is_there() -> None:
    """A path that is not becomes an empty folder, and the service starts with nothing."""
    services = loaded("docker-compose.yml")["services"]
    sources = [volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])]
    assert sources
    assert [] == [source for source in sources if not (ROOT / source).exists()]


def test_the_collector_uses_only_what_it_defines() -> None:
    """Every member of a pipeline is defined, every definition used, and every type one that exists."""
    tree = loaded("otel-collector.yaml")
    for section, types in COLLECTOR_TYPES.items():
        defined = set(tree.get(section, {}))
        used = set(tree["service"].get(section, []))
        for pipeline in tree["service"]["pipelines"].values():
            used |= set(pipeline.get(section, []))
        assert defined == used, section
        assert {name.split("/")[0] for name in defined} <= types


def test_spans_go_where_tempo_listens() -> None:
    """weir to the collector, the collector to Tempo, all by the same names and ports."""
    compose = loaded("docker-compose.yml")["services"]
    collector, tempo = loaded("otel-collector.yaml"), loaded("grafana/tempo/tempo.yaml")
    protocols = collector["receivers"]["otlp"]["protocols"]
    endpoint = compose["weir"]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"]
    assert protocols["grpc"]["endpoint"].replace("0.0.0.0", "http://otel-collector") == endpoint
    listening = tempo["distributor"]["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"]
    assert listening.replace("0.0.0.0", "tempo") == collector["exporters"]["otlp_grpc/tempo"]["endpoint"]
    assert {"otel-collector", "tempo"} <= compose.keys()


def test_grafana_finds_its_data_sources() -> None:
    """Every uid that is referred to is provisioned; a lone $ would be expanded by Grafana."""
    path = "grafana/provisioning/datasources/datasources.yaml"
    sources = {source["uid"]: source for source in loaded(path)["datasources"]}
    text = (ROOT / path).read_text()
    assert set(re.findall(r"datasourceUid: (\w+)", text)) <= sources.keys()
    assert [] == re.findall(r"(?<!\$)\$(?!\$)", text.replace("$$", ""))
    assert f":{loaded('grafana/tempo/tempo.yaml')['server']['http_listen_port']}" in sources["tempo"]["url"]


def test_the_dashboard_knows_the_scrape_interval() -> None:
    """$__rate_interval is made from it."""
    sources = loaded("grafana/provisioning/datasources/datasources.yaml")["datasources"]
    interval = loaded("grafana/prometheus/prometheus.yml")["global"]["scrape_interval"]
    assert [interval] == [source["jsonData"]["timeInterval"] for source in sources if source["type"] == "prometheus"]


def test_the_container_runs_as_nobody_and_exposes_the_default_ports() -> None:
    """What it copies exists and is not ignored."""
    text = (ROOT / "Dockerfile").read_text()
    assert text.rindex("USER 10001") > text.rindex("FROM ")
    defaults = Listen()
    assert defaults.diagnostics is not None
    assert f"EXPOSE {defaults.http.port} {defaults.diagnostics.port}\n" in text
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
    names = {name for line in copied for name in line.split()}
    assert names == {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert all((ROOT / name).exists() for name in names)
