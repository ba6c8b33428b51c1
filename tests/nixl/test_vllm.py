# SPDX-License-Identifier: Apache-2.0
"""vLLM, unmodified, with prefill and decode apart over KVTRANS: always the tokens of one server alone.

Ends with 77 and a sentence where vLLM cannot be had. usage: test_vllm.py [CASE...]
"""

import concurrent.futures
import pathlib
import signal
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "examples/vllm")]

import environment
import run as example
from cases import run
from servers import ANSWER_LIMIT, Pair, ask

PROMPTS, AT_ONCE, TOKENS, LENGTH = 8, 12, 16, 1500
MEETING_LIMIT = 60


class Bench:
    """The setting, and what one server alone says to each prompt; and the pair of servers that is up."""

    def __init__(self, setting):
        self.setting = setting
        self.prompts = example.make_prompts(AT_ONCE, LENGTH)
        self.expected = [answer.tokens for answer in example.ask_alone(setting, self.prompts, TOKENS)]
        self.pair = None
        self.met = {}  # its counters when it had met

    def open(self, mode):
        """A pair of servers that has met."""
        self.close()
        self.pair = Pair(self.setting, "KVTRANS", mode)
        self.pair.__enter__()
        answer = ask(self.pair.ports["proxy"], example.WARM_UP, 1, MEETING_LIMIT)
        assert not answer.error, f"the pair has not met: {answer.error}"
        self.met = example.wait_for_transfer(self.pair, {})

    def close(self):
        if self.pair:
            self.pair.end()
        self.pair = None

    def ask(self, number):
        return ask(self.pair.ports["proxy"], self.prompts[number], TOKENS)

    def check(self, answers):
        """Each prompt has the tokens of one server alone."""
        for number, answer in enumerate(answers):
            assert not answer.error, f"prompt {number}: {answer.error}"
            assert answer.tokens == self.expected[number], f"prompt {number}: other tokens"

    def check_counters(self, transfers):
        """The caches were moved by NIXL, and nothing of it failed."""
        example.wait_for_transfer(self.pair, self.met, count=transfers)
        for server in ("prefill", "decode"):
            failed = {name: value for name, value in self.pair.servers[server].get_metrics().items()
                      if "failed" in name and value}
            assert not failed, f"{server}: {failed}"


def one_by_one():
    bench.check([bench.ask(number) for number in range(PROMPTS)])
    bench.check_counters(PROMPTS)


def at_once():
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        bench.check(list(pool.map(bench.ask, range(AT_ONCE))))
    bench.check_counters(PROMPTS + AT_ONCE)


def pull():
    """pull mode: 8 prompts, one after the other, have the tokens of one server alone"""
    bench.open("pull")
    one_by_one()


def pull_at_once():
    """pull mode: so have 12 at once"""
    at_once()


def ask_until_error(number):
    answers = []
    while not answers or not answers[-1].error:
        answers.append(bench.ask(number))
    return answers


def kill():
    """prefill is killed while 12 ask again and again: each gets the right tokens, then an error; decode goes on"""
    prefill, decode = bench.pair.servers["prefill"], bench.pair.servers["decode"]
    before = bench.pair.get_transfers()
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        asked = [pool.submit(ask_until_error, number) for number in range(AT_ONCE)]
        try:
            example.wait_for_transfer(bench.pair, before, limit=ANSWER_LIMIT)
        finally:
            prefill.kill()  # so that they end in any case
        answers = [answer.result() for answer in asked]
    for number, of_one in enumerate(answers):
        print(f"  prompt {number}: {len(of_one) - 1} answers, then {of_one[-1].error[:100]}")
        for answer in of_one:
            assert answer.tokens == bench.expected[number][: len(answer.tokens)], f"prompt {number}: other tokens"
    assert decode.process.poll() is None and decode.answers(), "decode has ended"


def come_back():
    """prefill is started again: 8 prompts have the tokens of one server alone"""
    bench.pair.start("prefill")
    bench.pair.servers["prefill"].wait()
    bench.check([bench.ask(number) for number in range(PROMPTS)])


def push():
    """push mode: 8 prompts, one after the other, have the tokens of one server alone"""
    bench.open("push")
    one_by_one()


def push_at_once():
    """push mode: so have 12 at once"""
    at_once()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with example.prepare(example.parse_arguments([])) as setting:
            bench = Bench(setting)
            try:
                failed = run([pull, pull_at_once, kill, come_back, push, push_at_once])
            finally:
                bench.close()
            if failed:
                raise example.Failure(f"{failed} failed; logs are in {setting.logs}")
    except environment.Missing as error:
        print(error)
        sys.exit(77)
    except example.Failure as error:
        sys.exit(str(error))
