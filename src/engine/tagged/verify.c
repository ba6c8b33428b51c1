/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verify.c - summing what a receive got.
 */
#include "engine/tagged/verify.h"

#include "base/sum.h"
#include "engine/tagged/tag_queue.h"

enum { STEP_LEN = 4 * 1024 * 1024 }; /* half a millisecond */

_Static_assert(STEP_LEN % KVI_SUM_GRAIN == 0, "a step is of whole grains");

/* Sum the next step, and see to it that another one follows. */
static void sum_step(struct kvi_tagged *receive)
{
	struct kvi_verifying *verifying = &receive->verifying;
	size_t left = verifying->len - verifying->done;
	size_t step = left < STEP_LEN ? left : STEP_LEN;
	verifying->sum += kvi_sum_grains(receive->base, verifying->len, verifying->done, step);
	verifying->done += step;
	if (verifying->done == verifying->len) {
		kvi_recv_finish(receive, verifying->sum == verifying->told);
		return;
	}
	kvi_list_append(&receive->queue->link->chores, &verifying->chore.node);
	kvi_link_touch(receive->queue->link);
}

static void run_step(struct kvi_chore *chore)
{
	sum_step(kvi_container_of(chore, struct kvi_tagged, verifying.chore));
}

void kvi_verify_start(struct kvi_tagged *receive, size_t len, uint64_t sum)
{
	struct kvi_verifying *verifying = &receive->verifying;
	verifying->len = len;
	verifying->told = sum;
	verifying->chore.run = run_step;
	sum_step(receive);
}
