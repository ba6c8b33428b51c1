/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raw_link.h - one FI_EP_MSG endpoint connected to another process of this host, one completion
 * queue, one memory region on each side: the least that libfabric needs.
 */
#ifndef RAW_LINK_H
#define RAW_LINK_H

#include "raw_run.h"

#include <rdma/fabric.h>
#include <rdma/fi_domain.h>

struct raw_link {
	struct fi_info *info;
	struct fid_fabric *fabric;
	struct fid_domain *domain;
	struct fid_eq *eq;
	struct fid_cq *cq;
	struct fid_pep *pep;
	struct fid_ep *ep;
	struct fid_mr *mr;
	void *desc;
	uint64_t remote_address; /* of the peer's pool, as its provider wants it */
	uint64_t remote_key;
	bool spin;
};

/*
 * Open everything and connect; the forked process listens. The region covers the pool. A sentence
 * is printed on failure. Either way the link must be closed.
 */
int raw_link_open(struct raw_link *link, const struct raw_options *options,
		  const struct raw_peer *peer, const struct perf_pool *pool);
void raw_link_close(struct raw_link *link);

/* Post a receive for up to len bytes at base, a message that is not waited for, or one that is. */
int raw_link_receive(struct raw_link *link, void *base, size_t len, void *context);
int raw_link_send(struct raw_link *link, const void *base, size_t len, void *context);

/*
 * Wait for one completion, asleep in fi_cq_sread() or, when the link spins, in a loop of
 * fi_cq_read(). flags and context are those of the operation. -1, with a sentence printed, when an
 * operation failed.
 */
int raw_link_wait(struct raw_link *link, void **context, uint64_t *flags);

/* Take a completion that is already there: 1, 0 when there is none, -1 as above. */
int raw_link_poll(struct raw_link *link, void **context, uint64_t *flags);

#endif
