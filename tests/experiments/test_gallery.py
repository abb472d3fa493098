"""What studies share, and the gallery that runs them again."""

import json
import sys

import gallery
import matplotlib.figure
import pytest
import study as studies


def test_the_answer_is_the_first_sentence_of_a_finding():
    assert gallery.Entry("Why?", "To 0.01. Rates hold.").answer == "To 0.01."
    assert gallery.Entry("Why?", "Yes.").answer == "Yes."


def small_study(arguments):
    return studies.Study(matplotlib.figure.Figure(), "−1 %.", {"a": [1.5]}, {".txt": b"more"})


@pytest.mark.parametrize(("words", "folder"), [([], "here"), (["--fast"], "runs/fast"), (["--out", "a/b"], "a/b")])
def test_what_a_study_found_is_written_beside_it_unless_it_was_a_fast_one(words, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(studies, "HERE", tmp_path / "here")
    studies.run(small_study, words)
    written = tmp_path / folder
    assert {path.suffix for path in written.glob("test_gallery.*")} == {".json", ".png", ".svg", ".txt"}
    # As a reader would have it: no \u2212.
    text = (written / "test_gallery.json").read_text()
    assert json.loads(text) == {"finding": "−1 %.", "numbers": {"a": [1.5]}}
    assert "−1 %." in text
    assert (written / "test_gallery.txt").read_text() == "more"


def test_a_folder_that_cannot_be_made_is_refused_before_hours_of_work(tmp_path, capsys):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as stopped:
        studies.run(lambda arguments: pytest.fail("it ran"), ["--out", str(tmp_path / "file" / "out")])
    assert stopped.value.code == 2
    assert "out' cannot be made: Not a directory" in capsys.readouterr().err


def test_a_finding_takes_the_place_of_the_one_in_the_docstring_and_of_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "HERE", tmp_path)
    code = '"""Why?\n\nFinding: {}\n"""\n\nTEXT = """Finding: kept"""\n'
    (tmp_path / "a.py").write_text(code.format("old,\nover two lines."))
    gallery.write_finding("a", "new, −1 %.")
    assert gallery.read("a") == gallery.Entry("Why?", "new, −1 %.")
    assert (tmp_path / "a.py").read_text() == code.format("new, −1 %.")


def test_a_finding_is_wrapped_between_words_only(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "HERE", tmp_path)
    (tmp_path / "a.py").write_text('"""Why?\n\nFinding: old.\n"""\n')
    # The first half of what is hyphenated would fit into the line, and of a long word a piece.
    finding = f"{'x' * 100} two-parts-of-it {'y' * 130}"
    gallery.write_finding("a", finding)
    assert gallery.read("a").finding == finding
    # What would be a group in a replacement is text.
    gallery.write_finding("a", r"\1 is kept.")
    assert "\nFinding: \\1 is kept.\n" in (tmp_path / "a.py").read_text()


RERUN = '''"""Why?

Finding: old.
"""
import pathlib, sys
path = pathlib.Path(__file__)
path.with_suffix(".json").write_text({found!r})
path.with_suffix(".png").write_text("picture")
sys.exit({code})
'''


@pytest.fixture
def rerun(tmp_path, monkeypatch):
    """From what a study finds and exits with to what is said of it and its finding afterwards."""
    monkeypatch.setattr(gallery, "HERE", tmp_path)

    def run(found, code=0):
        (tmp_path / "a.py").write_text(RERUN.format(found=json.dumps(found), code=code))
        return gallery.rerun("a"), gallery.read("a").finding

    return run


def test_a_study_that_is_run_again_says_what_changed(rerun, tmp_path):
    said, finding = rerun({"finding": "new."})
    assert said == "a.json, a.png, the finding, which was\n  old.\nand is\n  new.\n"
    assert finding == "new."
    assert gallery.rerun("a") == "unchanged"
    # Those whose findings are written by hand.
    (tmp_path / "a.png").unlink()
    assert rerun({"numbers": 1}) == ("a.json, a.png", "old.")


def test_a_study_that_fails_keeps_its_finding(rerun):
    assert rerun({"finding": "new."}, code=1) == (None, "old.")


@pytest.fixture
def run_gallery(tmp_path, monkeypatch):
    """The command, in which batch_size fails; returns what was run."""
    monkeypatch.setattr(gallery, "PAGE", tmp_path / "README.md")

    def run(*words):
        ran = []
        monkeypatch.setattr(gallery, "rerun", lambda name: ran.append(name) or (None if name == "batch_size" else "x"))
        monkeypatch.setattr(sys, "argv", ["gallery.py", *words])
        try:
            gallery.main()
        except SystemExit as stopped:
            return ran, stopped.code
        return ran, 0

    return run


def test_a_study_that_fails_is_named_in_the_end_and_the_others_and_the_page_are_made(run_gallery, tmp_path, capsys):
    assert run_gallery("batch_size", "noise_floor") == (["batch_size", "noise_floor"], "failed: batch_size")
    assert (tmp_path / "README.md").read_text() == gallery.page()
    assert capsys.readouterr().out == "batch_size: failed\nnoise_floor: x\nREADME.md: changed\n"
    assert run_gallery() == (list(gallery.STUDIES), "failed: batch_size")


def test_the_page_alone_runs_nothing_and_an_unknown_study_is_refused(run_gallery, tmp_path, capsys):
    assert run_gallery("noise_flor") == ([], 2)
    assert "unknown 'noise_flor'; did you mean 'noise_floor'?" in capsys.readouterr().err
    assert not (tmp_path / "README.md").exists()
    assert run_gallery("--page") == ([], 0)
    assert run_gallery("--page") == ([], 0)
    assert capsys.readouterr().out == "README.md: changed\nREADME.md: unchanged\n"
