"""The deployment files say what the programs understand, and their times fit together."""

from __future__ import annotations

import configparser
import importlib
import re
import shlex
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from intaglio.cli.app import load
from intaglio.serve_ray import Arguments, build
from intaglio.server.metrics import SCHEDULED

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "deploy.md").read_text()
Fields = dict[str, Any]


def documents(name: str) -> list[Fields]:
    return list(yaml.safe_load_all((DOCS / "deploy" / name).read_text()))


def flags(arguments: list[str]) -> Fields:
    """Read as `intaglio serve` does; it fails at what it does not have."""
    return dict(load("serve").make_context("serve", list(arguments)).params)


def pods() -> list[tuple[Fields, Fields]]:
    """The pod and the container of each kind of deployment."""
    deployment = documents("kubernetes.yaml")[0]["spec"]["template"]["spec"]
    predictor = documents("kserve.yaml")[0]["spec"]["predictor"]
    return [(pod, pod["containers"][0]) for pod in (deployment, predictor)]


@pytest.mark.parametrize(("pod", "container"), pods(), ids=["kubernetes", "kserve"])
def test_a_pod_fits_its_server(pod: Fields, container: Fields) -> None:
    given = flags(container["args"])
    resources = container["resources"]
    assert resources["requests"] == resources["limits"]
    assert given["threads"] == int(resources["limits"]["cpu"])
    assert given["host"] == "0.0.0.0"
    assert given["port"] == container["ports"][0]["containerPort"]
    waiting = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > waiting + given["drain_seconds"]
    assert container["env"][0]["name"] == "INTAGLIO_API_KEY"
    for probe in [key for key in container if key.endswith("Probe")]:
        assert container[probe]["httpGet"]["path"] == "/health"
    liveness = container.get("livenessProbe", {"failureThreshold": 99, "periodSeconds": 1})
    assert liveness["failureThreshold"] * liveness["periodSeconds"] > given["drain_seconds"]
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in pod["volumes"]}


@pytest.mark.parametrize("document", documents("kubernetes.yaml"), ids=lambda each: each["kind"])
def test_kubernetes_knows_every_field(document: Fields) -> None:
    kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def test_the_service_and_the_policy_mean_the_deployments_pods() -> None:
    deployment, service, policy = documents("kubernetes.yaml")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert [each["kind"] for each in (deployment, service, policy)] == [
        "Deployment", "Service", "NetworkPolicy",
    ]  # fmt: skip
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert service["spec"]["selector"] == labels
    assert policy["spec"]["podSelector"]["matchLabels"] == labels
    (port,) = deployment["spec"]["template"]["spec"]["containers"][0]["ports"]
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]
    assert policy["spec"]["ingress"][0]["ports"][0]["port"] == port["containerPort"]
    annotations = deployment["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(port["containerPort"])


def test_kserve_knows_its_container() -> None:
    (service,) = documents("kserve.yaml")
    assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    predictor = service["spec"]["predictor"]
    assert predictor["containers"][0]["name"] == "kserve-container"
    (metric,) = predictor["autoScaling"]["metrics"]
    for name in re.findall(r"intaglio:(\w+)", metric["external"]["metric"]["query"]):
        assert name in SCHEDULED


def test_ray_understands_its_config() -> None:
    schema = pytest.importorskip("ray.serve.schema", reason="needs ray[serve]", exc_type=ImportError)
    (config,) = documents("ray.yaml")
    schema.ServeDeploySchema.model_validate(config)
    (application,) = config["applications"]
    module, _, name = application["import_path"].partition(":")
    assert getattr(importlib.import_module(module), name) is build
    Arguments.model_validate(application["args"])


def test_every_argument_is_described() -> None:
    (rows,) = re.findall(r"\n\| argument .*\n\|---.*\n((?:\|.*\n)+)", TEXT)
    first = "".join(row.split("|")[1] for row in rows.splitlines())
    assert set(re.findall(r"`(\w+)`", first)) == set(Arguments.model_fields)


def test_the_unit_and_the_image_start_a_server() -> None:
    (unit,) = re.findall(r"```ini\n(.*?)```", TEXT, re.DOTALL)
    parser = configparser.ConfigParser()
    parser.read_string(unit)
    _, verb, *arguments = shlex.split(parser["Service"]["ExecStart"])
    assert verb == "serve"
    assert int(parser["Service"]["TimeoutStopSec"]) > flags(arguments)["drain_seconds"]
    image = (DOCS / "deploy" / "Dockerfile").read_text()
    (command,) = re.findall(r"^CMD (.*)", image, re.MULTILINE)
    assert flags(yaml.safe_load(command))["host"] == "0.0.0.0"


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([\w/.]+)\)", TEXT):
        assert (DOCS / target).exists(), target
