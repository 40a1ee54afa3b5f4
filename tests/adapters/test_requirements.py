"""Sets of requirements: how a line is read, and what makes two sets the same one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lossaudit.adapters.requirements import WrongRequirements, parse


def project(folder: Path) -> Path:
    (folder / "package").mkdir(parents=True)
    (folder / "package" / "__init__.py").write_text("version = 1\n")
    (folder / "pyproject.toml").write_text("[project]\nname = 'package'\nversion = '1'\n")
    return folder


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("torch==2.13.0", ["torch==2.13.0"]),
        (" optax==0.2.3   jax==0.4.30\tjaxlib\n", ["jax==0.4.30", "jaxlib", "optax==0.2.3"]),
        ("torch >= 2 numpy<2", ["numpy<2", "torch>=2"]),
        ("torch >= 2 , < 3 jax ~= 0.4", ["jax~=0.4", "torch<3,>=2"]),
        ("'torch >= 2' \"numpy <2\"", ["numpy<2", "torch>=2"]),
        ("jax[cpu]==0.4.30", ["jax[cpu]==0.4.30"]),
        ("Ml_Dtypes==0.5 TORCH", ["ml-dtypes==0.5", "torch"]),
        ("torch torch", ["torch"]),
        ("'numpy<2; python_version < \"3.12\"'", ['numpy<2; python_version < "3.12"']),
        ("https://host/a-1-py3-none-any.whl", ["https://host/a-1-py3-none-any.whl"]),
        ("git+ssh://git@host/a.git@v1 b", ["b", "git+ssh://git@host/a.git@v1"]),
    ],
)
def test_a_line_is_read(text: str, expected: list[str]):
    assert parse(text).texts == expected


def test_a_requirement_with_an_address_is_read():
    (text,) = parse("Pkg @ https://host/pkg-1.zip").texts
    assert text.replace(" ", "") == "pkg@https://host/pkg-1.zip"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "no requirement"),
        (" '' ", "no requirement"),
        ("numpy torch=2.13", "'torch=2.13' is no requirement"),
        ("torch==", "'torch==' is no requirement"),
        ("== 2.13", "'== 2.13' is no requirement"),
        ("torch==2,jax==1", "'torch==2,jax==1' is no requirement"),
        ("numpy ; python_version < '3'", "is no requirement"),  # its quotes were the shell's
        ("'torch >= 2", "No closing quotation"),
        ("./nowhere.whl", "no file or folder"),
        ("nowhere-1.0.zip", "no file or folder"),
        ("pkg @ file:///nowhere/pkg", "no file or folder /nowhere/pkg"),
    ],
)
def test_a_malformed_one_is_named_and_a_right_one_shown(text: str, named: str):
    with pytest.raises(WrongRequirements) as caught:
        parse(text)
    assert named in str(caught.value)
    assert "torch==2.15.0" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("option", ["-r", "--index-url", "--pre", "-e", "-i=x", "--index-url=y"])
def test_options_are_refused_for_the_configuration_of_pip(option: str):
    with pytest.raises(WrongRequirements, match="PIP_INDEX_URL") as caught:
        parse(f"torch {option} something")
    assert f"{option!r} is an option of pip" in str(caught.value)


def test_sets_are_the_same_in_any_order_and_spelling():
    assert parse("b==1 A_x >=2").identity == parse("a-x>=2 B==1 b==1").identity
    different = ["a", "a==1", "a==1.1", "a==1 b", "a[x]==1", 'a==1;python_version<"4"']
    assert len({parse(f"'{text}'" if ";" in text else text).identity for text in different}) == 6


def test_a_label_can_be_read_and_stand_in_a_path():
    assert parse("torch==2.15.0+cpu jax>=0.4").label == "jax-0.4-torch-2.15.0+cpu"
    assert parse("git+https://host/x/a.git@main").label == "a.git-main"


def test_passwords_are_not_shown():
    requirements = parse("https://me:secret@host/a-1-py3-none-any.whl 'b @ https://t0ken@host/b'")
    assert "secret" not in str(requirements)
    assert "t0ken" not in str(requirements)
    assert "secret" in " ".join(requirements.texts)


def test_what_a_name_stands_for_is_known_where_pip_must_install_it():
    names = [each.name for each in parse("B_b==1 'c; python_version<\"3\"'").each]
    assert names == ["b-b", ""]


def test_a_path_is_absolute_and_may_have_extras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    project(tmp_path / "my project")
    wheel = tmp_path / "tiny-1-py3-none-any.whl"
    wheel.write_bytes(b"1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse("tiny-1-py3-none-any.whl").texts == [str(wheel)]
    assert parse("./tiny-1-py3-none-any.whl ~/tiny-1-py3-none-any.whl").texts == [str(wheel)]
    assert parse("'./my project[test,doc]'").texts == [f"{tmp_path}/my project[test,doc]"]
    assert parse("./tiny-1-py3-none-any.whl").label == "tiny-1-py3-none-any"


def test_a_folder_without_a_project_is_refused(tmp_path: Path):
    with pytest.raises(WrongRequirements, match="neither pyproject"):
        parse(str(tmp_path))


def test_a_file_that_changed_makes_another_set(tmp_path: Path):
    wheel = tmp_path / "tiny-1-py3-none-any.whl"
    wheel.write_bytes(b"1")
    texts = (str(wheel), f"tiny @ {wheel.as_uri()}", wheel.as_uri())
    first = [parse(f"'{text}'").identity for text in texts]
    assert first == [parse(f"'{text}'").identity for text in texts]
    wheel.write_bytes(b"2")
    assert not set(first) & {parse(f"'{text}'").identity for text in texts}


def test_a_folder_that_changed_makes_another_set(tmp_path: Path):
    folder = project(tmp_path / "project")

    def identity() -> str:
        return parse(str(folder)).identity

    seen = [identity()]
    (folder / "package" / "__init__.py").write_text("version = 2\n")
    seen.append(identity())
    (folder / "package" / "more.py").write_text("")
    seen.append(identity())
    (folder / "package" / "more.py").rename(folder / "package" / "other.py")
    seen.append(identity())
    (folder / "package" / "build").mkdir()
    (folder / "package" / "build" / "module.py").write_text("")
    seen.append(identity())
    assert len(set(seen)) == 5


def test_what_a_build_leaves_in_a_folder_makes_no_other_set(tmp_path: Path):
    folder = project(tmp_path / "project")
    before = parse(str(folder)).identity
    left = ("build/lib/p.py", "dist/p.whl", "p.egg-info/PKG-INFO", "package/__pycache__/p.pyc")
    for name in (*left, ".git/HEAD", ".coverage"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("left")
    os.mkfifo(folder / "pipe")  # to open it would wait for ever
    assert parse(str(folder)).identity == before


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path):
    folder = project(tmp_path / "project")
    secret = folder / "package" / "secret.py"
    secret.symlink_to("/proc/self/mem")  # opens, and cannot be read, by root neither
    with pytest.raises(WrongRequirements, match="cannot be read"):
        parse(str(folder))
