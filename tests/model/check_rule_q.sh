#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The abort rule as a model (rule_q.pml), and its steps compared with transitions.list, which the engine is held to by
# tests/engine/check_transitions.c. With KVT_TEST_LONG larger ones, of 1.5 to 8.4 million states. Not searched: two messages
# and two receives in each of two sessions.
. "${KVT_SRCDIR:?run make check, or source tests/env.sh of a build tree first}/tests/model/model.sh"
use_model rule_q.pml
one='-DMESSAGES=1 -DRECEIVES=1'
again="-DSESSIONS=2 $one -DNO_LONG -DNO_EAGER"

# shellcheck disable=SC2086 # These are words.
{
	check 0 'two messages and two receives: nobody touches memory of what has returned' -DNO_LONG
	check 0 'nobody touches memory of what has returned' -DONE_LANE -DNO_LONG $one
	check 0 'two messages and two receives end by their answers alone' -DNO_CUT -DTELL
	check 0 'two messages and two receives end by their answers alone' -DONE_LANE -DNO_CUT -DTELL
	check 0 'many segments' -DWRITES=3 $one
	check 0 'many segments' -DONE_LANE -DWRITES=3 $one
	check 0 'nothing of one session reaches the next' $again
	check 0 'nothing of one session reaches the next' -DONE_LANE $again
	if test -n "${KVT_TEST_LONG:-}"; then
		check 0 'two messages and two receives, in full' -DWRITES=2
		check 0 'two messages and two receives, in full' -DONE_LANE
		check 0 'nothing of one session reaches the next, in full' -DSESSIONS=2 $one -DCUT_ALL -DWRITES=2
		check 0 'nothing of one session reaches the next, in full' -DONE_LANE -DSESSIONS=2 $one -DCUT_ALL
	fi

	check 1 'a receiver that does not wait is found' -DRECEIVER_RUSHES $one
	check 1 'a receiver that does not wait is found' -DRECEIVER_RUSHES -DONE_LANE $one
	check 1 'a sender that does not wait is found' -DSENDER_RUSHES $one
	check 1 'a sender that does not wait is found' -DSENDER_RUSHES -DONE_LANE $one
	check 1 'an answer that comes before the writes are done is found' -DCACK_RUSHES $one
	check 1 'a FIN that is no answer is found' -DFIN_IGNORED -DNO_CUT
	check 1 'a receive that goes to another message at once is found' -DYIELDER_RUSHES
	check 1 'a loss that does not sever is found' -DLOSS_RUSHES $one
	check 1 'a CTS that is used in the next session is found' -DEARLY_OUTLIVES $again
}
check_rows send recv
finish
