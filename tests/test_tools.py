"""The tools of maintainers: a demo that runs again."""

import json
from pathlib import Path

import demo
import pytest
from harness import template


@pytest.fixture
def folder(workbench: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where the demo goes."""
    monkeypatch.setattr(demo, "ROOT", template())
    return workbench / "demo-service"


def test_a_demo_runs_again(folder: Path) -> None:
    """A second demo has the template's files as they are now. Its environment and data stay."""
    assert demo.prepare(folder)
    before = set(demo.names(folder))
    kept = [folder / ".venv" / "pyvenv.cfg", folder / ".dev" / "data", folder / "uv.lock"]
    for file in kept:
        file.parent.mkdir(exist_ok=True)
        file.touch()
    (folder / "src" / "demo_service" / "app.py").touch()

    assert demo.prepare(folder)
    assert set(demo.names(folder)) == before | {"uv.lock"}
    assert all(file.exists() for file in kept)


def test_files_that_the_template_no_longer_has_go_away(folder: Path) -> None:
    """An older demo has them."""
    demo.prepare(folder)
    gone = folder / "src" / "demo_service" / "gone.py"
    gone.touch()
    mark = folder / demo.MARK
    generated = json.loads(mark.read_text())
    mark.write_text(
        json.dumps(generated | demo.checksums(folder, [gone.relative_to(folder).as_posix()]))
    )

    assert demo.prepare(folder)
    assert not gone.exists()


def test_an_edited_demo_is_kept(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It runs with the edits."""
    demo.prepare(folder)
    app = folder / "src" / "demo_service" / "app.py"
    app.write_text("# Mine\n")

    assert demo.prepare(folder)
    assert app.read_text() == "# Mine\n"
    assert "with your edits" in capsys.readouterr().out


def test_another_folder_is_left_alone(folder: Path) -> None:
    """Also one with a service of somebody else."""
    folder.mkdir()
    (folder / "README.md").write_text("Mine\n")

    assert not demo.prepare(folder)
    assert [path.name for path in folder.iterdir()] == ["README.md"]
