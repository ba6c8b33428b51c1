/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dialer.h - the thread that drives all calls that were started and not waited for, however many there are: each is a
 * dial (dial.h) that the thread steps when one of its sockets is ready, its time has come, or somebody tells of it. It
 * is there from the first such call on. To the application each call is a transfer, at home on the first worker.
 */
#ifndef KVI_ENGINE_DIALER_H
#define KVI_ENGINE_DIALER_H

struct kvi_dial;
struct kvi_dialer;
struct kvt_engine;

/* NULL: no memory. */
struct kvi_dialer *kvi_dialer_alloc(struct kvt_engine *engine);

/* End all calls with KVT_E_CLOSED, and the thread. The control thread and the workers are there. */
void kvi_dialer_stop(struct kvi_dialer *dialer);
/* Nobody tells it anything any more; NULL is allowed. */
void kvi_dialer_free(struct kvi_dialer *dialer);

/* The connection of a dial has changed, or the dial shall stop. Any thread, under any lock. */
void kvi_dialer_tell(struct kvi_dial *dial);

#endif
