# SPDX-License-Identifier: Apache-2.0
"""What engines call, in the order and with the arguments of their code.

vLLM 0.32, SGLang 0.5.23, LMCache 0.5.6, and Dynamo's nixl_connect.
"""

import os
import sys

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from agents import BACKEND, finish, take_notifications
from cases import run
from nixl_cu12._api import nixl_agent, nixl_agent_config, nixl_thread_sync_t

LAYERS, BLOCKS, BLOCK = 4, 256, 8192


class Worker:
    """vLLM's: a region a layer, block descriptors over all of them."""

    def __init__(self, name, value):
        self.layers = [np.full((BLOCKS, BLOCK), value, dtype=np.uint8) for _ in range(LAYERS)]
        self.agent = nixl_agent(name, nixl_agent_config(num_threads=4, capture_telemetry=True, backends=[BACKEND]))
        regions = [(layer.ctypes.data, layer.nbytes, 0, "") for layer in self.layers]
        self.agent.register_memory(self.agent.get_reg_descs(regions, "DRAM"), backends=[BACKEND])
        self.metadata = self.agent.get_agent_metadata()
        self.bases = [layer.ctypes.data for layer in self.layers]
        descs = self.agent.get_xfer_descs(make_rows(self.bases), "DRAM")
        self.local = self.agent.prep_xfer_dlist("NIXL_INIT_AGENT", descs)

    def meet(self, other):
        """What a handshake does."""
        name = self.agent.add_remote_agent(other.metadata)
        assert isinstance(name, bytes)
        descs = self.agent.get_xfer_descs(make_rows(other.bases), "DRAM")
        assert self.agent.check_remote_metadata(name, descs)
        return name, self.agent.prep_xfer_dlist(name, descs)


def make_rows(bases):
    rows = np.zeros((len(bases) * BLOCKS, 3), dtype=np.uint64)
    offsets = np.arange(BLOCKS, dtype=np.uint64) * np.uint64(BLOCK)
    rows[:, 0] = (np.array(bases, dtype=np.uint64)[:, None] + offsets).ravel()
    rows[:, 1] = BLOCK
    return rows


def over_layers(blocks):
    return (np.arange(LAYERS)[:, None] * BLOCKS + blocks).ravel()


def vllm_pulls():
    """vLLM's pull mode: READ over all layers, and the request's id as notification"""
    decode, prefill = Worker("decode-uuid", 0), Worker("prefill-uuid", 1)
    for number, layer in enumerate(prefill.layers):
        layer[:] = number + 1
    name, remote = decode.meet(prefill)
    mine, theirs = np.arange(10, 40), np.arange(100, 130)[::-1]
    handle = decode.agent.make_prepped_xfer("READ", decode.local, over_layers(mine), remote, over_layers(theirs),
                                            notif_msg=b"request-1:2")
    decode.agent.transfer(handle)
    assert finish(decode.agent, handle) == "DONE"
    telemetry = decode.agent.get_xfer_telemetry(handle)
    assert telemetry.totalBytes == LAYERS * 30 * BLOCK and telemetry.xferDuration >= telemetry.postDuration > 0
    decode.agent.release_xfer_handle(handle)
    assert take_notifications(prefill.agent, 1) == [("decode-uuid", b"request-1:2")]
    for number, layer in enumerate(decode.layers):
        assert (layer[10:40] == number + 1).all() and not layer[:10].any() and not layer[40:].any()
    decode.agent.send_notif(name, notif_msg=b"HB:request-1,request-2")
    assert take_notifications(prefill.agent, 1) == [("decode-uuid", b"HB:request-1,request-2")]
    decode.agent.release_dlist_handle(remote)
    decode.agent.remove_remote_agent(name)


def vllm_pushes():
    """vLLM's push mode: block ids as a notification of 25 KB, then WRITE back with one"""
    decode, prefill = Worker("decode-uuid", 0), Worker("prefill-uuid", 9)
    prefill_name, _ = decode.meet(prefill)
    _, remote = prefill.meet(decode)
    ids = b"REG:request-1:" + b",".join(b"%d" % number for number in range(5000))
    decode.agent.send_notif(prefill_name, notif_msg=ids)
    assert take_notifications(prefill.agent, 1) == [("decode-uuid", ids)]
    blocks = over_layers(np.arange(64))
    handle = prefill.agent.make_prepped_xfer("WRITE", prefill.local, blocks, remote, blocks, notif_msg=b"request-1:1")
    prefill.agent.transfer(handle)
    assert finish(prefill.agent, handle) == "DONE"
    assert take_notifications(decode.agent, 1) == [("prefill-uuid", b"request-1:1")]
    assert all((layer[:64] == 9).all() and not layer[64:].any() for layer in decode.layers)
    prefill.agent.release_xfer_handle(handle)


def make_sglang(name, **parameters):
    config = nixl_agent_config(backends=[], num_threads=8, sync_mode=nixl_thread_sync_t.NIXL_THREAD_SYNC_STRICT)
    agent = nixl_agent(name, config)
    agent.create_backend(BACKEND, parameters)
    return agent


def sglang():
    """SGLang: STRICT locking, strided lists of five columns, writes without notifications, handles left to their end"""
    prefill = make_sglang("prefill", ncpus="1")
    decode = make_sglang("decode")
    near = np.random.default_rng(1).integers(0, 256, (LAYERS, BLOCKS, BLOCK), dtype=np.uint8)
    far = np.zeros_like(near)
    for agent, memory in ((prefill, near), (decode, far)):
        agent.register_memory([(layer.ctypes.data, layer.nbytes, 0, "") for layer in memory], "DRAM")
    peer = prefill.add_remote_agent(decode.get_agent_metadata()).decode()

    def pack(memory):
        return np.array([(layer.ctypes.data, BLOCK, 0, BLOCK, BLOCKS) for layer in memory], dtype=np.uint64)

    blocks = over_layers(np.random.default_rng(2).permutation(BLOCKS)[:100]).astype(np.int32)
    source = prefill.prep_xfer_dlist("", pack(near), "DRAM")
    target = prefill.prep_xfer_dlist(peer, pack(far), "DRAM")
    handle = prefill.make_prepped_xfer("WRITE", source, blocks, target, blocks)
    assert prefill.transfer(handle) != "ERR"
    assert finish(prefill, handle) == "DONE"
    rows = [memory.reshape(-1, BLOCK) for memory in (near, far)]
    assert (rows[1][blocks] == rows[0][blocks]).all() and (rows[1].any(axis=1).sum() == len(blocks))

    # Auxiliary data, by lists of tuples.
    descs = [agent.get_xfer_descs([(memory[0, 0].ctypes.data, BLOCK, 0)], "DRAM")
             for agent, memory in ((prefill, near), (prefill, far))]
    handles = [prefill.initialize_xfer("WRITE", *descs, peer) for _ in range(100)]
    for handle in handles:
        assert prefill.transfer(handle) != "ERR"
    for handle in handles:
        assert finish(prefill, handle) == "DONE"
    assert (far[0, 0] == near[0, 0]).all()


def lmcache():
    """LMCache: descriptors that travel serialized, write and read of chosen pages"""
    sides = [nixl_agent(name, nixl_agent_config(backends=[BACKEND])) for name in ("sender", "receiver")]
    arrays = [np.full((BLOCKS, BLOCK), value, dtype=np.uint8) for value in (5, 0)]
    lists = []
    for agent, array in zip(sides, arrays):
        agent.register_memory(agent.get_reg_descs([(array.ctypes.data, array.nbytes, 0, "")], mem_type="cpu"))
        descs = agent.get_xfer_descs([(row.ctypes.data, BLOCK, 0) for row in array], mem_type="cpu")
        lists.append((descs, agent.prep_xfer_dlist("", descs, mem_type="cpu")))
    sender, receiver = sides
    name = sender.add_remote_agent(receiver.get_agent_metadata())
    descs = sender.deserialize_descs(receiver.get_serialized_descs(lists[1][0]))
    remote = sender.prep_xfer_dlist(name, descs)
    for operation, expected in (("WRITE", 5), ("READ", 7)):
        handle = sender.make_prepped_xfer(operation, lists[0][1], list(range(50)), remote, list(range(100, 150)))
        sender.transfer(handle)
        assert finish(sender, handle) == "DONE"
        sender.release_xfer_handle(handle)
        assert (arrays[operation == "WRITE"][slice(100, 150) if operation == "WRITE" else slice(50)] == expected).all()
        arrays[1][:] = 7


class Tensor:
    """What NIXL asks of a tensor of torch, of which it is one for NIXL below."""

    device = "cpu"

    def __init__(self, array):
        self.array = array

    def __getitem__(self, _):
        return self

    def data_ptr(self):
        return self.array.ctypes.data

    def numel(self):
        return self.array.size

    def element_size(self):
        return self.array.itemsize

    def get_device(self):
        return -1

    def is_contiguous(self):
        return True


def dynamo():
    """Dynamo: tensors are registered, a descriptor is one transfer, notifications are taken with update_notifs"""
    stub = type(sys)("torch")
    stub.Tensor = Tensor
    sys.modules["torch"] = stub
    reader, owner = (nixl_agent(name, nixl_agent_config(backends=[BACKEND])) for name in ("reader", "owner"))
    tensors = [Tensor(np.full(100_000, value, dtype=np.float32)) for value in (0, 2)]
    registered = reader.register_memory(tensors[0]), owner.register_memory(tensors[1])
    reader.add_remote_agent(owner.get_agent_metadata())
    descs = [reader.get_xfer_descs(tensor) for tensor in tensors]
    handle = reader.initialize_xfer("READ", *descs, "owner", b"key")
    reader.transfer(handle, b"other key")
    assert finish(reader, handle) == "DONE" and (tensors[0].array == 2).all()
    while not owner.update_notifs():
        pass
    assert owner.notifs == {"reader": [b"other key"]}
    reader.release_xfer_handle(handle)
    reader.deregister_memory(registered[0])
    owner.deregister_memory(registered[1])


if __name__ == "__main__":
    sys.exit(run([vllm_pulls, vllm_pushes, sglang, lmcache, dynamo]) > 0)
