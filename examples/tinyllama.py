# SPDX-License-Identifier: Apache-2.0
"""A Llama in NumPy: RMSNorm, grouped-query attention, RoPE, SwiGLU, greedy decoding.

The architecture is the real one. The weights of TinyLlama are random numbers from a seed, its tokens are
bytes; gguf_llama.py reads trained ones. Neither knows anything of other processes: they read and write a
KV cache that their caller allocated.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Shape:
    layers: int = 6
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 32
    hidden: int = 352
    vocab: int = 256
    rope_base: float = 10000.0

    @property
    def dim(self):
        return self.heads * self.head_dim

    def empty_cache(self, tokens):
        """Zeros of shape (layer, K or V, token, KV head, channel). The first n tokens of a layer's
        K (or V) are contiguous, so they can be sent and received in place."""
        return np.zeros((self.layers, 2, tokens, self.kv_heads, self.head_dim), np.float32)


class Llama:
    """Its parts: embedding, (token, channel); layers, a dict of matrices each, to multiply with from the
    right; head, the same. The gains of a trained model's RMSNorms are in the matrices that follow them."""

    def __init__(self, shape, embedding, layers, head):
        self.shape, self.embedding, self.layers, self.head = shape, embedding, layers, head

    def forward(self, tokens, start, cache, on_layer=None):
        """Run tokens at positions start, start + 1, ... over what the cache holds before them.
        Writes their K and V into the cache; on_layer(layer) is called as soon as those of a layer
        are there. Returns the logits of the last token."""
        positions = np.arange(start, start + len(tokens))
        rotation = rope_angles(positions, self.shape)
        x = self.embedding[tokens]
        for layer, w in enumerate(self.layers):
            keys, values = cache[layer, :, : start + len(tokens)]
            h = rms_norm(x)
            keys[start:] = rotate(self.split(h @ w["k"]), rotation)
            values[start:] = self.split(h @ w["v"])
            if on_layer:
                on_layer(layer)
            q = rotate(self.split(h @ w["q"]), rotation)
            x = x + attend(q, keys, values, positions) @ w["o"]
            h = rms_norm(x)
            x = x + (silu(h @ w["gate"]) * (h @ w["up"])) @ w["down"]
        return rms_norm(x[-1]) @ self.head

    def generate(self, token, start, count, cache, end=None):
        """Continue greedily after token, which stands at position start: a list of count tokens, or
        fewer when end is the last."""
        tokens = []
        for position in range(start, start + count):
            if token == end:
                break
            token = int(np.argmax(self.forward([token], position, cache)))
            tokens.append(token)
        return tokens

    def split(self, x):
        return x.reshape(len(x), -1, self.shape.head_dim)


class TinyLlama(Llama):
    def __init__(self, seed, shape=Shape()):
        random = np.random.default_rng(seed)

        def weights(rows, columns):
            return (random.standard_normal((rows, columns)) / np.sqrt(rows)).astype(np.float32)

        dim, kv_dim = shape.dim, shape.kv_heads * shape.head_dim
        embedding = weights(shape.vocab, dim) * np.float32(np.sqrt(shape.vocab))
        layers = [
            {
                # Larger than a trained model would have: random queries attend to nothing in
                # particular, and this demo wants tokens that depend on the prompt.
                "q": weights(dim, dim) * np.float32(4),
                "k": weights(dim, kv_dim),
                "v": weights(dim, kv_dim),
                "o": weights(dim, dim),
                "gate": weights(dim, shape.hidden),
                "up": weights(dim, shape.hidden),
                "down": weights(shape.hidden, dim),
            }
            for _ in range(shape.layers)
        ]
        super().__init__(shape, embedding, layers, weights(dim, shape.vocab))


def rms_norm(x):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(1e-5))


def silu(x):
    return x / (1 + np.exp(-x))


def rope_angles(positions, shape):
    frequencies = shape.rope_base ** (-np.arange(0, shape.head_dim, 2) / shape.head_dim)
    angles = np.outer(positions, frequencies)[:, None, :]
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def rotate(x, rotation):
    """RoPE on (token, head, channel): channel i turns with channel i + half."""
    cos, sin = rotation
    a, b = np.split(x, 2, axis=-1)
    return np.concatenate((a * cos - b * sin, a * sin + b * cos), axis=-1)


def attend(q, keys, values, positions):
    """Causal attention. Each KV head serves a group of query heads."""
    count, heads, head_dim = q.shape
    kv_heads = keys.shape[1]
    q = q.transpose(1, 0, 2).reshape(kv_heads, -1, head_dim) / np.float32(np.sqrt(head_dim))
    scores = q @ np.ascontiguousarray(keys.transpose(1, 2, 0))
    if count > 1:
        later = np.arange(len(keys)) > positions[:, None]
        scores.reshape(kv_heads, -1, count, len(keys))[:, :, later] = -np.inf
    np.exp(scores - scores.max(axis=-1, keepdims=True), out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    mixed = scores @ np.ascontiguousarray(values.transpose(1, 0, 2))
    return mixed.reshape(heads, count, head_dim).transpose(1, 0, 2).reshape(count, -1)
