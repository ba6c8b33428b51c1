# SPDX-License-Identifier: Apache-2.0
"""Output for a terminal of 80 columns or a pipe. Colour and a moving bar are for terminals only."""

import os
import shutil
import sys
import textwrap
import time

WIDTH = min(80, shutil.get_terminal_size().columns)
IS_TERMINAL = sys.stdout.isatty()
HAS_COLOUR = IS_TERMINAL and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def heading(text):
    print(f"\n\033[1m{text}\033[0m" if HAS_COLOUR else f"\n{text}", flush=True)


def paragraph(text):
    print("\n" + textwrap.fill(text, WIDTH), flush=True)


def say(who, text):
    """One statement of one process, wrapped under itself."""
    text = textwrap.fill(text, WIDTH, initial_indent=f"{who:<9}", subsequent_indent=" " * 9)
    print(text, flush=True)


def dump(data):
    """Bytes of which few are text: hexadecimal, and beside it what can be shown."""
    for row in range(0, len(data), 16):
        part = data[row : row + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        print(f"         {part.hex(' '):<47}  |{text}|", flush=True)


class Progress:
    """A bar on a terminal. Elsewhere nothing moves: what note() says is printed, a line each."""

    INTERVAL = 0.1

    def __init__(self, total):
        self.total = total
        self.done = 0
        self.drawn_at = 0.0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if IS_TERMINAL:
            print("\r" + " " * (WIDTH - 1), end="\r", flush=True)

    def step(self):
        self.done += 1
        now = time.monotonic()
        if IS_TERMINAL and now - self.drawn_at >= self.INTERVAL:
            self.drawn_at = now
            share = self.done / self.total
            width = max(10, WIDTH - 10)
            bar = "#" * round(share * width)
            print(f"\r[{bar:-<{width}}] {share:4.0%}", end="", flush=True)

    def note(self, text):
        if not IS_TERMINAL:
            print(text, flush=True)
