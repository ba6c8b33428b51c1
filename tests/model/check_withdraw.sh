#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The withdrawal of an export as a model (withdraw.pml).
. "${KVT_SRCDIR:?run make check, or source tests/env.sh of a build tree first}/tests/model/model.sh"
use_model withdraw.pml

check 0 'nothing lands once a withdrawal has returned or a transfer has failed' -DMANY_LANES
check 0 'nothing lands once a withdrawal has returned or a transfer has failed' -DONE_LANE
check 0 'nothing lands once a withdrawal has returned or a transfer has failed' -DMANY_LANES -DSPREAD
check 0 'a withdrawal ends by the answer of the peer alone' -DMANY_LANES -DNO_CUT
check 0 'a withdrawal ends by the answer of the peer alone' -DONE_LANE -DNO_CUT
check 0 'a withdrawal ends by the answer of the peer alone' -DMANY_LANES -DSPREAD -DNO_CUT
check 1 'an owner that does not wait is found' -DOWNER_RUSHES
check 1 'an owner that does not wait is found' -DOWNER_RUSHES -DSPREAD
check 1 'a peer that does not wait is found' -DPEER_RUSHES
check 1 'a write that is not delivered when it is done is found' -DWRITES_RUSH -DSPREAD
check 1 'a transfer that fails before its writes have landed is found' -DWRITER_RUSHES
check 1 'a transfer that fails before its writes have landed is found' -DWRITER_RUSHES -DONE_LANE
check 1 'a pack that is dropped before the peer knows is found' -DDROPS_EARLY
check 1 'a pack that is dropped before the peer knows is found' -DDROPS_EARLY -DONE_LANE
check 1 'a pack that is dropped before the peer knows is found' -DDROPS_EARLY -DSPREAD
finish
