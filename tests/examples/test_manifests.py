"""The examples for SLURM and Kubernetes: valid, and of one mind with the exit codes of a job."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from curator_llm.job.attach import DRAIN_S
from curator_llm.job.file.job_file import load_job, read_job
from curator_llm.job.places import Place

ROOT = Path(__file__).parents[2]
KUBERNETES, SLURM = ROOT / "examples" / "kubernetes", ROOT / "examples" / "slurm"
MANIFESTS = [
    (path.name, manifest)
    for path in sorted(KUBERNETES.glob("*.yaml"))
    for manifest in yaml.safe_load_all(path.read_text())
]


def of_kind(kind: str) -> dict:
    (found,) = [manifest for _, manifest in MANIFESTS if manifest["kind"] == kind]
    return found


def codes_of_the_page() -> set[int]:
    text = (ROOT / "docs" / "jobs.md").read_text(encoding="utf-8")
    return {int(code) for code in re.findall(r"^\| (\d+) \| `\w+` \|", text, re.MULTILINE)}


def exit_codes(action: str) -> list[int]:
    rules = of_kind("Job")["spec"]["podFailurePolicy"]["rules"]
    return [
        code for rule in rules if rule["action"] == action for code in rule.get("onExitCodes", {}).get("values", [])
    ]


# --- Kubernetes -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "manifest"), MANIFESTS, ids=lambda value: value["kind"] if isinstance(value, dict) else ""
)
def test_a_manifest_is_as_the_published_schemas_want_it(name, manifest):
    kubernetes_validate.validate(manifest, "1.31", strict=True)


def test_what_somebody_has_to_mend_fails_the_job_and_all_else_is_tried_again():
    assert exit_codes("FailJob") == [2, 3, 4, 5]
    assert exit_codes("Ignore") == [75]
    assert exit_codes("Count") == [1, 137, 143]
    assert codes_of_the_page() == {0, 1, 2, 3, 4, 5, 75}


def test_a_pod_may_end_what_is_in_flight_and_the_next_one_goes_on():
    spec = of_kind("Job")["spec"]
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    assert pod["terminationGracePeriodSeconds"] >= 2 * DRAIN_S
    assert spec["podReplacementPolicy"] == "Failed"
    assert spec["backoffLimit"] >= 1


def test_the_key_comes_from_a_secret_and_stands_nowhere():
    (container,) = of_kind("Job")["spec"]["template"]["spec"]["containers"]
    (key,) = [variable for variable in container["env"] if variable["name"] == "OPENAI_API_KEY"]
    assert key["valueFrom"]["secretKeyRef"] == {"name": "curator-llm", "key": "api-key"}
    assert "value" not in key


def test_journal_input_and_output_are_on_the_claim_that_all_nodes_can_mount():
    job = read_job(of_kind("ConfigMap")["data"]["job.yaml"], Place("job.yaml"))
    pod = of_kind("Job")["spec"]["template"]["spec"]
    claim = of_kind("PersistentVolumeClaim")
    (mount,) = [mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "data"]
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "data"]
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for path in (job.run_dir, job.input.path, job.output.path):
        assert Path(mount["mountPath"]) in path.parents


# --- SLURM ------------------------------------------------------------------------------------------------------------
def test_the_batch_script_is_a_shell_script_that_requeues_what_was_interrupted():
    script = SLURM / "job.sbatch"
    subprocess.run(["bash", "-n", str(script)], check=True)
    text = script.read_text(encoding="utf-8")
    assert '[ "$code" -eq 75 ]; then # interrupted, resumable\n  scontrol requeue "$SLURM_JOB_ID"' in text
    directives = re.findall(r"^#SBATCH (\S+)$", text, re.MULTILINE)
    assert {"--requeue", "--signal=B:TERM@120", "--open-mode=append"} <= set(directives)
    drain_s = re.search(r"ENGINE__DRAIN=(\d+)s", text)
    assert drain_s
    assert DRAIN_S <= int(drain_s[1]) < 120


def test_the_job_of_the_batch_script_is_read():
    assert load_job(SLURM / "job.yaml").steps
