"""Whether the wheel, installed where there is no framework, is whole and can be imported.

python -P .ci/check_installed.py dist/*.tar.gz dist/*.whl
"""

import importlib.metadata
import pathlib
import subprocess
import sys
import sysconfig
import tarfile
import zipfile

import importance_sampling
import importance_sampling.datasets
import importance_sampling.samplers

root = pathlib.Path(__file__).resolve().parents[1]
installed = pathlib.Path(importance_sampling.__file__).resolve()
if root in installed.parents:
    sys.exit(f"this is the checkout, not what was installed: {installed}")

version = importlib.metadata.version("keras-importance-sampling")
if version != importance_sampling.__version__:
    sys.exit(f"the distribution is {version}, the package {importance_sampling.__version__}")
command = pathlib.Path(sysconfig.get_path("scripts")) / "importance-sampling"
said = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
if said.stdout.strip() != version:
    sys.exit(f"importance-sampling --version says {said.stdout!r}")

wheel = next(name for name in sys.argv[1:] if name.endswith(".whl"))
sdist = next(name for name in sys.argv[1:] if name.endswith(".tar.gz"))
package = root / "importance_sampling"
wanted = {p.relative_to(root).as_posix() for p in package.rglob("*.py")}
wanted.add("importance_sampling/py.typed")
tests = {p.relative_to(root).as_posix() for p in (root / "tests").rglob("*.py")}
with zipfile.ZipFile(wheel) as zipped, tarfile.open(sdist) as tarred:
    names = {
        "wheel": set(zipped.namelist()),
        "sdist": {name.partition("/")[2] for name in tarred.getnames()},
    }
for kind, found in names.items():
    # Whoever packages the source can run the tests.
    lacking = (wanted | tests if kind == "sdist" else wanted) - found
    if lacking:
        sys.exit(f"the {kind} lacks {sorted(lacking)}")
    if not any(name.endswith("LICENSE") for name in found):
        sys.exit(f"the {kind} lacks the license")
sys.stdout.write(f"{version}: {len(wanted)} files in wheel and sdist\n")
