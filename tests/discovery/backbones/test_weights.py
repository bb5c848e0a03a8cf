"""Weights are loaded exactly as stored, from every supported source, and anything else is rejected."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from eigenseg.discovery.backbones import weights as weights_module
from eigenseg.discovery.backbones.weights import load_vit

TINY: dict[str, Any] = {"embed_dim": 48, "depth": 2, "num_heads": 3}
DINO, DINOV3 = "vit_small_patch16_224.dino", "vit_small_patch16_dinov3.lvd1689m"
DINOV2_REGISTERS = "vit_small_patch14_reg4_dinov2.lvd142m"


def state(architecture: str = DINO, seed: int = 1) -> dict[str, Tensor]:
    model, _ = load_vit(architecture, "random", model_args=TINY, seed=seed)
    return {name: value + 0.01 for name, value in model.state_dict().items()}


def assert_holds(model: nn.Module, expected: dict[str, Tensor]) -> None:
    result = model.state_dict()
    assert result.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(result[name], value), name


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_is_loaded_to_the_bit_and_its_sha256_recorded(tmp_path: Path, suffix: str) -> None:
    path, tensors = tmp_path / f"dino{suffix}", state()
    save_file(tensors, path) if suffix == ".safetensors" else torch.save(tensors, path)
    model, origin = load_vit(DINO, path, model_args=TINY)
    assert_holds(model, tensors)
    assert origin == {"source": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def test_a_training_checkpoint_gives_its_teacher_without_head(tmp_path: Path) -> None:
    teacher, student = state(seed=1), state(seed=2)
    wrapped = {f"module.backbone.{name}": value for name, value in teacher.items()}
    wrapped["module.head.mlp.0.weight"] = torch.zeros(3)
    torch.save({"student": student, "teacher": wrapped, "epoch": 300}, tmp_path / "full.pth")
    assert_holds(load_vit(DINO, tmp_path / "full.pth", model_args=TINY)[0], teacher)


def test_published_names_of_dinov2_with_registers_are_converted() -> None:
    expected = state(DINOV2_REGISTERS)
    published = dict(expected)
    # As published: registers under another name, and CLS has its own entry in the position table.
    published["register_tokens"] = published.pop("reg_token")
    position = torch.full((1, 1, 48), 0.25)
    published["cls_token"] = expected["cls_token"] - position
    published["pos_embed"] = torch.cat([position, expected["pos_embed"]], dim=1)
    published["mask_token"] = torch.zeros(1, 48)
    model, _ = load_vit(DINOV2_REGISTERS, published, model_args=TINY)
    result = model.state_dict()
    torch.testing.assert_close(result.pop("cls_token"), expected.pop("cls_token"))
    assert all(torch.equal(result[name], value) for name, value in expected.items())


def test_published_names_of_dinov3_are_converted() -> None:
    expected = state(DINOV3)
    published = {name.replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma"): v for name, v in expected.items()}
    published["storage_tokens"] = published.pop("reg_token")
    published |= {"mask_token": torch.zeros(1, 48), "rope_embed.periods": torch.zeros(4)}
    assert_holds(load_vit(DINOV3, published, model_args=TINY)[0], expected)


def test_random_weights_repeat_and_leave_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second, other = (load_vit(DINO, "random", model_args=TINY, seed=seed)[0] for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert_holds(first, dict(second.state_dict()))
    assert not torch.equal(first.state_dict()["pos_embed"], other.state_dict()["pos_embed"])


def test_another_architecture_is_rejected_with_the_differences(tmp_path: Path) -> None:
    torch.save(state(DINOV3), tmp_path / "dinov3.pth")
    with pytest.raises(ValueError, match=r"dinov3.pth does not fit vit_small.*tensors missing \(.*unexpected \("):
        load_vit(DINO, tmp_path / "dinov3.pth", model_args=TINY)
    with pytest.raises(ValueError, match=r"another shape \(.*: \[.*\], expected \[.*\]\); choose the backbone"):
        load_vit(DINO, state(), model_args={**TINY, "embed_dim": 96})


def test_weights_that_are_not_finite_are_rejected_by_name() -> None:
    broken = state()
    broken["blocks.1.mlp.fc1.bias"][3] = torch.nan
    with pytest.raises(ValueError, match=r"values that are not finite \(blocks.1.mlp.fc1.bias\); it is damaged"):
        load_vit(DINO, broken, model_args=TINY)


def itself(key: str) -> dict[str, Any]:
    content: dict[str, Any] = {"epoch": 3}
    content[key] = content
    return content


NAME = "blocks.1.mlp.fc1.bias"
ODD: dict[str, tuple[Any, str]] = {
    "integer": (lambda value: value.to(torch.int64), "holds {} as int64 numbers, expected plain tensors of floating-point"),
    "bool": (lambda value: value > 0, "holds {} as bool numbers"),
    "complex": (lambda value: value.to(torch.complex64), "holds {} as complex64 numbers"),
    "float8": (lambda value: value.to(torch.float8_e4m3fn), "holds {} as float8_e4m3fn numbers"),
    "quantized": (lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8), "holds {} as quantized numbers"),
    "sparse": (lambda value: value.to_sparse(), "holds {} as a sparse_coo tensor"),
    "meta": (lambda value: value.to("meta"), r"holds {} as a tensor without values \(meta\)"),
    "huge": (lambda value: value[:1].expand(2**40), r"1 of another shape \({}: \[1099511627776\], expected"),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.filterwarnings("ignore")
def test_a_tensor_of_another_kind_is_named(kind: str, tmp_path: Path) -> None:
    change, message = ODD[kind]
    tensors = state()
    tensors[NAME] = change(tensors[NAME])
    torch.save(tensors, tmp_path / "odd.pth")
    for weights, origin in ((tensors, "the state dict"), (tmp_path / "odd.pth", f"{tmp_path}/odd.pth")):
        with pytest.raises(ValueError, match=rf"^backbone\.weights: {origin} .*{message.format(NAME)}"):
            load_vit(DINO, weights, model_args=TINY)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({0: torch.zeros(2)}, "holds a tensor under 0, expected names, as a state dict has"),
        ({"model": {("a", 1): torch.zeros(2)}}, r"holds a tensor under \('a', 1\), expected names"),
        (itself("model"), "holds itself under 'model'"),
        ({"state_dict": itself("teacher")}, "holds itself under 'teacher'"),
        ({0: "a", "optimizer": {0: torch.zeros(2)}}, "tensors missing"),
    ],
)
def test_a_container_of_another_form_is_named(content: dict[Any, Any], message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(ValueError, match=rf"^backbone\.weights: {tmp_path}/odd\.pth .*{message}"):
        load_vit(DINO, tmp_path / "odd.pth", model_args=TINY)


def test_integer_keys_beside_the_network_do_not_matter(tmp_path: Path) -> None:
    torch.save({"model": state(), "optimizer": {"state": {0: {"step": torch.tensor(3)}}}, 7: 7}, tmp_path / "full.pth")
    assert_holds(load_vit(DINO, tmp_path / "full.pth", model_args=TINY)[0], state())


def test_published_names_with_tensors_of_other_shapes_are_refused() -> None:
    for architecture, marker in ((DINOV2_REGISTERS, "mask_token"), (DINOV3, "storage_tokens")):
        for name in state(architecture):
            odd = {**state(architecture), marker: torch.zeros(1, 48), name: torch.zeros(())}
            with pytest.raises(ValueError, match="does not fit"):
                load_vit(architecture, odd, model_args=TINY)


def test_weights_that_are_replaced_while_they_are_read_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(state(), tmp_path / "w.pth")
    genuine = weights_module.read_checkpoint

    def read_then_replace(path: Path, *arguments: Any) -> dict[str, Any]:
        content = genuine(path, *arguments)
        torch.save({"model": state(seed=2)}, path)
        return content

    monkeypatch.setattr(weights_module, "read_checkpoint", read_then_replace)
    with pytest.raises(ValueError, match="w.pth changed while it was read"):
        load_vit(DINO, tmp_path / "w.pth", model_args=TINY)


def test_what_the_system_does_not_give_is_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(state(), tmp_path / "w.pth")
    os.mkfifo(tmp_path / "pipe.pth")
    with pytest.raises(ValueError, match=r"pipe\.pth is no regular file, expected a \.pth"):
        load_vit(DINO, tmp_path / "pipe.pth", model_args=TINY)

    def deny(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("eigenseg.data.checkpoints.open", deny, raising=False)
    with pytest.raises(ValueError, match=r"^backbone\.weights: .*w\.pth cannot be read: Permission denied$"):
        load_vit(DINO, tmp_path / "w.pth", model_args=TINY)


def test_a_folder_is_rejected_as_weights(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a folder, expected a .pth, .pt or .safetensors file"):
        load_vit(DINO, tmp_path, model_args=TINY)


class Payload:
    """An object whose unpickling would stop the test."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, ("raise SystemExit('a pickle ran')",)


def test_a_pickled_object_is_rejected_without_unpickling(tmp_path: Path) -> None:
    torch.save({"teacher": state(), "args": Payload()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match=r"evil.pth holds pickled Python objects.*save its tensors alone as .safetensors"):
        load_vit(DINO, tmp_path / "evil.pth", model_args=TINY)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.pth", b"", "empty.pth is damaged or not a checkpoint"),
        ("text.pth", b"these are no weights", "text.pth is damaged or not a checkpoint"),
        ("cut.safetensors", b"\x10\x00\x00\x00\x00\x00\x00\x00{", "cut.safetensors is damaged or not a checkpoint"),
        ("list.pth", None, "list.pth holds a list, expected a dict of tensors"),
    ],
)
def test_a_file_that_is_not_a_checkpoint_is_named(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    torch.save([1, 2], tmp_path / name) if content is None else (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_vit(DINO, tmp_path / name, model_args=TINY)


def test_a_truncated_checkpoint_is_named(tmp_path: Path) -> None:
    torch.save(state(), tmp_path / "cut.pth")
    content = (tmp_path / "cut.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="cut.pth is damaged or not a checkpoint"):
        load_vit(DINO, tmp_path / "cut.pth", model_args=TINY)


def test_a_missing_file_names_the_supported_formats(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such file .*nowhere.pth; expected a .pth, .pt or .safetensors"):
        load_vit(DINO, tmp_path / "nowhere.pth", model_args=TINY)


def raise_offline(*arguments: Any, **options: Any) -> socket.socket:
    raise OSError("network is unreachable")


def test_without_weights_and_network_the_error_names_the_alternatives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "create_connection", raise_offline)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(weights_module, "_in_hub_cache", lambda architecture: None)
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(FileNotFoundError) as raised:
        load_vit(DINO, "pretrained", cached_as="dino_deitsmall16_pretrain.pth", model_args=TINY)
    for alternative in (
        "Go online once",
        "backbone.weights=path.pth",
        f"{tmp_path}/checkpoints/dino_deitsmall16_pretrain.pth",
    ):
        assert alternative in str(raised.value)
    assert "backbone=color_texture" in str(raised.value)


def test_the_authors_file_in_torch_hubs_folder_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    torch.save(state(), tmp_path / "checkpoints" / "dino.pth")
    model, origin = load_vit(DINO, "pretrained", cached_as="dino.pth", model_args=TINY)
    assert_holds(model, state())
    assert origin["source"] == str(tmp_path / "checkpoints" / "dino.pth")


def test_a_file_in_timms_cache_is_loaded_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", raise_offline)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "none"))
    save_file(state(), tmp_path / "model.safetensors")
    requests: list[tuple[str, str]] = []

    def cache(repository: str, name: str) -> str:
        requests.append((repository, name))
        return str(tmp_path / "model.safetensors")

    monkeypatch.setattr(weights_module.huggingface_hub, "try_to_load_from_cache", cache)
    assert_holds(load_vit(DINO, "pretrained", model_args=TINY)[0], state())
    assert requests == [("timm/vit_small_patch16_224.dino", "model.safetensors")]


def test_pickle_protocol_of_a_plain_object_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(ValueError, match="plain.pth (holds pickled Python objects|is not a checkpoint|is damaged)"):
        load_vit(DINO, tmp_path / "plain.pth", model_args=TINY)
