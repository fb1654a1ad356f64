"""A reader who knows one crate knows the others."""

from __future__ import annotations

from pathlib import Path

# What every store crate has at its top. The other files and folders are declared in test_rust_layers.py.
STORE_FILES = {"config.rs", "lib.rs", "store.rs"}
NO_STORES = {"ids", "python", "runtime", "store", "store-testkit"}


def test_every_store_crate_has_the_same_files(crates):
    stores = {folder: package for folder, package in crates.items() if folder not in NO_STORES}
    assert stores
    for folder, package in stores.items():
        source = Path(package["manifest_path"]).parent / "src"
        assert {path.name for path in source.glob("*.rs")} >= STORE_FILES, f"crates/{folder}/src"


def test_every_crate_is_in_the_folder_of_its_name(crates):
    assert {package["name"] for package in crates.values()} == {f"mintkey-{folder}" for folder in crates}


def test_every_crate_takes_lints_and_version_from_the_workspace(crates):
    for folder, package in crates.items():
        told = Path(package["manifest_path"]).read_text()
        assert "\n[lints]\nworkspace = true\n" in told, f"crates/{folder}"
        assert "\nversion.workspace = true\n" in told, f"crates/{folder}"


def test_only_the_binding_may_be_unsafe(crates):
    for folder, package in crates.items():
        forbids = "#![forbid(unsafe_code)]" in (Path(package["manifest_path"]).parent / "src" / "lib.rs").read_text()
        assert forbids == (folder != "python"), f"crates/{folder}/src/lib.rs"


def test_a_panic_becomes_an_exception_never_an_abort(texts):
    ends = [
        line
        for name, text in texts.items()
        if name.endswith(".toml")
        for line in text.splitlines()
        if "panic =" in line
    ]
    assert ends == ['panic = "unwind"']
