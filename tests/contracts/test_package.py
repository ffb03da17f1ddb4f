"""What is shipped is what was tested: the wheel that is built from the sdist is whole."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import primer

ROOT = Path(__file__).parents[2]
CHECKOUT = pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="not a checkout")


@CHECKOUT
def test_a_wheel_from_the_sdist_holds_the_recipes_and_the_type_marker(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert list(tmp_path.glob("*.tar.gz")), "the wheel must come from an sdist"
    shipped = set(zipfile.ZipFile(wheel).namelist())
    source = ROOT / "src"
    expected = {
        path.relative_to(source).as_posix()
        for path in (source / "primer").rglob("*")
        if path.suffix in (".py", ".toml", ".typed")
    }
    assert {"primer/py.typed", "primer/recipes/default.toml", "primer/recipes/lecture.toml"} <= expected
    assert expected <= shipped
    metadata = next(name for name in shipped if name.endswith("METADATA"))
    text = zipfile.ZipFile(wheel).read(metadata).decode()
    assert "Name: gpt-primer" in text
    assert "torch<2.14,>=2.11" in text


def test_importing_primer_imports_nothing_heavy() -> None:
    code = "import sys, primer; sys.exit(bool({'torch', 'numpy', 'rich'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_training_loads_no_compiler_that_nobody_asked_for() -> None:
    """torch._dynamo and Triton cost a second and much memory."""
    code = "import sys, primer.recipes.run; sys.exit(bool({'torch._dynamo', 'triton'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_public_name_is_there() -> None:
    assert set(primer.__all__) <= set(dir(primer))
    for name in primer.__all__:
        assert getattr(primer, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = primer.nonsense
