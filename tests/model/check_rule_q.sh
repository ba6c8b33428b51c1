#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The abort rule as a model (rule_q.pml).
. "${KVT_SRCDIR:?run make check, or source tests/env.sh of a build tree first}/tests/model/model.sh"
use_model rule_q.pml

check 0 'nobody touches memory of a transfer that has returned' -DMANY_LANES
check 0 'nobody touches memory of a transfer that has returned' -DONE_LANE
check 0 'both sides end by their answers alone' -DMANY_LANES -DNO_CUT
check 0 'both sides end by their answers alone' -DONE_LANE -DNO_CUT
check 1 'a receiver that does not wait is found' -DRECEIVER_RUSHES
check 1 'a receiver that does not wait is found' -DRECEIVER_RUSHES -DONE_LANE
check 1 'a sender that does not wait is found' -DSENDER_RUSHES
check 1 'a sender that does not wait is found' -DSENDER_RUSHES -DONE_LANE
check 1 'an answer that comes before the writes are done is found' -DCACK_RUSHES
check 1 'a FIN that is no answer is found' -DFIN_IGNORED -DNO_CUT
finish
