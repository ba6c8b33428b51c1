/* SPDX-License-Identifier: Apache-2.0 */
/*
 * path_libfabric.c - the path of bare libfabric: one FI_EP_MSG endpoint, one completion queue, one memory region on
 * each side, the least that libfabric needs. An operation on each block asks for FI_DELIVERY_COMPLETE: without it a provider may call a
 * block written that is still in a buffer of this side. It never merges blocks: that is what the library is there for.
 */
#include "perf.h"

#include <err.h>
#include <rdma/fabric.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>
#include <stdlib.h>
#include <string.h>

enum { CQ_LEN = 1024, NAME_LEN_MAX = 128, CONNECT_MS = 10000, SLEEP_MS = 1000 };

/* Stamps that can come without another receive being posted. */
enum { MAILS = 64, POOL_KEY = 42, MAIL_KEY };

/* What both processes tell each other over their local socket: the server where it listens; each its pool. */
struct name {
	char bytes[NAME_LEN_MAX];
	size_t len;
};

struct rkey {
	uint64_t address;
	uint64_t key;
};

struct mail {
	struct perf_stamp stamp;
	size_t pending;
};

/* The context of every operation is a count of what is pending. */
struct link {
	bool batch; /* one completion a transfer instead of one a block */
	bool spin;  /* poll instead of sleeping */
	struct fi_info *info;
	struct fid_fabric *fabric;
	struct fid_domain *domain;
	struct fid_eq *eq;
	struct fid_cq *cq;
	struct fid_pep *pep;
	struct fid_ep *ep;
	struct fid_mr *mr;
	struct fid_mr *mail_mr;
	void *desc;
	void *mail_desc;
	struct rkey remote; /* of the peer's pool, as its provider wants it */
	struct mail mails[MAILS];
	size_t next_mail;
};

static int check(const char *what, long rc)
{
	if (!rc)
		return PERF_OK;
	warnx("%s: %s", what, fi_strerror((int)-rc));
	return PERF_FAILED;
}

/* ---- completions ---- */

/* Take what has completed; when asked to wait, sleep, unless the program spins, until there is something. */
static int reap(struct link *link, bool wait)
{
	struct fi_cq_err_entry cause = { 0 };
	struct fi_cq_msg_entry entries[16];
	bool found = false;

	for (;;) {
		long rc = wait && !found && !link->spin
				  ? fi_cq_sread(link->cq, entries, 16, NULL, SLEEP_MS)
				  : fi_cq_read(link->cq, entries, 16);
		for (long i = 0; i < rc; i++) {
			size_t *pending = entries[i].op_context;
			--*pending;
			found = true;
		}
		if (rc == -FI_EAVAIL && fi_cq_readerr(link->cq, &cause, 0) > 0)
			return check("an operation", -cause.err);
		if (rc < 0 && rc != -FI_EAGAIN && rc != -FI_EINTR)
			return check("fi_cq_read", rc);
		if (rc < 16 && (found || !wait))
			return PERF_OK;
	}
}

static int finish(struct link *link, const size_t *pending)
{
	int status = PERF_OK;

	while (*pending && !status)
		status = reap(link, true);
	return status;
}

static int finish_flight(struct perf_run *run, struct perf_flight *flight)
{
	return finish(run->own, &flight->pending);
}

/* Whether to try once more, as the queue was full; *status is of the call otherwise. */
static bool is_full(struct link *link, const char *call, long rc, int *status)
{
	*status = rc == -FI_EAGAIN ? reap(link, false) : check(call, rc);
	return rc == -FI_EAGAIN && !*status;
}

/* ---- messages ---- */

static int receive(struct link *link, void *base, size_t len, void *desc, size_t *pending)
{
	int status;

	while (is_full(link, "fi_recv", fi_recv(link->ep, base, len, desc, 0, pending), &status))
		;
	*pending += !status;
	return status;
}

static int receive_message(struct perf_run *run, struct perf_flight *flight)
{
	struct link *link = run->own;

	return receive(link, flight->slot, run->job.block_len, link->desc, &flight->pending);
}

/* The smallest messages are copied by every provider, and complete without a trace. */
static int inject(struct link *link, const void *base, size_t len)
{
	int status;

	while (is_full(link, "fi_inject", fi_inject(link->ep, base, len, 0), &status))
		;
	return status;
}

/* In a ping-pong the answer tells that the message has arrived. */
static int send_message(struct perf_run *run, struct perf_flight *flight)
{
	struct link *link = run->own;
	bool latency = run->job.mode == PERF_LATENCY;
	struct iovec iov = { flight->slot, run->job.block_len };
	struct fi_msg message = {
		.msg_iov = &iov, .desc = &link->desc, .iov_count = 1, .context = &flight->pending
	};
	uint64_t flags = FI_COMPLETION | (latency ? 0 : FI_DELIVERY_COMPLETE);
	int status;

	if (latency && iov.iov_len <= link->info->tx_attr->inject_size)
		return inject(link, flight->slot, iov.iov_len);
	while (is_full(link, "fi_sendmsg", fi_sendmsg(link->ep, &message, flags), &status))
		;
	flight->pending += !status;
	return status;
}

static int tell_stamp(struct perf_run *run, const struct perf_stamp *stamp)
{
	return inject(run->own, stamp, sizeof(*stamp));
}

static int post_mail(struct link *link, struct mail *mail)
{
	return receive(link, &mail->stamp, sizeof(mail->stamp), link->mail_desc, &mail->pending);
}

static int await_stamp(struct perf_run *run, struct perf_stamp *stamp)
{
	struct link *link = run->own;
	struct mail *mail = &link->mails[link->next_mail++ % MAILS];

	if (finish(link, &mail->pending))
		return PERF_FAILED;
	*stamp = mail->stamp;
	return post_mail(link, mail);
}

/* ---- transfers ---- */

/* The endpoint keeps the order of operations: where that was asked for, one completion is enough for all blocks. */
static int start_transfer(struct perf_run *run, struct perf_flight *flight)
{
	struct link *link = run->own;
	bool reads = run->job.op == PERF_READ;
	uint64_t complete = FI_COMPLETION | (reads ? 0 : FI_DELIVERY_COMPLETE);
	size_t len = run->job.block_len;
	int status = PERF_OK;

	for (size_t i = 0; i < run->job.count && !status; i++) {
		struct iovec iov = { run->pool.base + flight->local[i] * len, len };
		struct fi_rma_iov remote = { link->remote.address + flight->remote[i] * len, len,
					     link->remote.key };
		const struct fi_msg_rma message = {
			.msg_iov = &iov,
			.desc = &link->desc,
			.iov_count = 1,
			.rma_iov = &remote,
			.rma_iov_count = 1,
			.context = &flight->pending,
		};
		uint64_t flags = link->batch && i + 1 < run->job.count ? 0 : complete;
		while (is_full(link, "an operation",
			       (reads ? fi_readmsg : fi_writemsg)(link->ep, &message, flags),
			       &status))
			;
		flight->pending += !status && flags;
	}
	return status;
}

/* ---- the connection ---- */

/* Ask for the named provider at the interface's address; the serving process is its passive side too. */
static int find_provider(struct link *link, const struct perf_options *options)
{
	struct fi_info *hints = fi_allocinfo();
	char host[64];

	if (!hints)
		return check("fi_allocinfo", -FI_ENOMEM);
	if (perf_find_address(options, host, sizeof(host)))
		return PERF_FAILED;
	/* A cached registration would outlive its close; the library measured against has it off too. */
	setenv("FI_MR_CACHE_MAX_COUNT", "0", 0);
	hints->caps = FI_MSG | FI_RMA;
	hints->ep_attr->type = FI_EP_MSG;
	hints->domain_attr->mr_mode = FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED |
				      FI_MR_PROV_KEY;
	hints->fabric_attr->prov_name = strdup(options->provider);
	int rc = fi_getinfo(FI_VERSION(1, 17), host, "0", FI_SOURCE, hints, &link->info);
	fi_freeinfo(hints);
	if (!rc)
		return PERF_OK;
	warnx("provider %s offers no connected endpoint with RMA at %s: %s", options->provider,
	      host, fi_strerror(-rc));
	return PERF_FAILED;
}

static int open_domain(struct link *link, const struct perf_pool *pool)
{
	struct fi_eq_attr eq_attr = { .wait_obj = FI_WAIT_UNSPEC };
	struct fi_cq_attr cq_attr = { .size = CQ_LEN, .format = FI_CQ_FORMAT_MSG };
	uint64_t access = FI_SEND | FI_RECV | FI_WRITE | FI_REMOTE_WRITE | FI_READ | FI_REMOTE_READ;
	int rc;

	cq_attr.wait_obj = link->spin ? FI_WAIT_NONE : FI_WAIT_UNSPEC;
	if ((rc = fi_fabric(link->info->fabric_attr, &link->fabric, NULL)) ||
	    (rc = fi_eq_open(link->fabric, &eq_attr, &link->eq, NULL)) ||
	    (rc = fi_domain(link->fabric, link->info, &link->domain, NULL)) ||
	    (rc = fi_cq_open(link->domain, &cq_attr, &link->cq, NULL)) ||
	    (rc = fi_mr_reg(link->domain, pool->base, pool->len, access, 0, POOL_KEY, 0, &link->mr,
			    NULL)) ||
	    (rc = fi_mr_reg(link->domain, link->mails, sizeof(link->mails), FI_SEND | FI_RECV, 0,
			    MAIL_KEY, 0, &link->mail_mr, NULL)))
		return check("opening the domain", rc);
	link->desc = fi_mr_desc(link->mr);
	link->mail_desc = fi_mr_desc(link->mail_mr);
	return PERF_OK;
}

static int open_endpoint(struct link *link, struct fi_info *info)
{
	uint64_t selective = link->batch ? FI_SELECTIVE_COMPLETION : 0;
	int rc = fi_endpoint(link->domain, info, &link->ep, NULL);

	if (!rc)
		rc = fi_ep_bind(link->ep, &link->eq->fid, 0);
	if (!rc)
		rc = fi_ep_bind(link->ep, &link->cq->fid, FI_TRANSMIT | selective);
	if (!rc)
		rc = fi_ep_bind(link->ep, &link->cq->fid, FI_RECV);
	return check("opening an endpoint", rc ? rc : fi_enable(link->ep));
}

/* Wait for one event of the connection manager, which must be the wanted one. */
static int await_event(struct link *link, uint32_t wanted, struct fi_eq_cm_entry *entry)
{
	uint32_t event = 0;
	long rc = fi_eq_sread(link->eq, &event, entry, sizeof(*entry), CONNECT_MS, 0);

	return check("connecting", rc < 0 ? rc : event == wanted ? 0 : -FI_ECONNREFUSED);
}

static int accept_link(struct perf_run *run)
{
	struct link *link = run->own;
	struct fi_eq_cm_entry entry;
	struct name name = { .len = NAME_LEN_MAX };
	int rc = fi_passive_ep(link->fabric, link->info, &link->pep, NULL);

	if (rc || (rc = fi_pep_bind(link->pep, &link->eq->fid, 0)) || (rc = fi_listen(link->pep)) ||
	    (rc = fi_getname(&link->pep->fid, name.bytes, &name.len)))
		return check("listening", rc);
	if (perf_put(run, &name, sizeof(name)) || await_event(link, FI_CONNREQ, &entry))
		return PERF_FAILED;
	int status = open_endpoint(link, entry.info);
	fi_freeinfo(entry.info);
	return status ? status : check("fi_accept", fi_accept(link->ep, NULL, 0));
}

static int connect_link(struct perf_run *run)
{
	struct link *link = run->own;
	struct name name;

	if (perf_get(run, &name, sizeof(name)))
		return PERF_FAILED;
	link->info->dest_addr = malloc(name.len);
	if (!link->info->dest_addr)
		return check("malloc", -FI_ENOMEM);
	memcpy(link->info->dest_addr, name.bytes, name.len);
	link->info->dest_addrlen = name.len;
	int status = open_endpoint(link, link->info);
	return status ? status : check("fi_connect", fi_connect(link->ep, name.bytes, NULL, 0));
}

static int open_link(struct perf_run *run)
{
	struct link *link = perf_make_own(run, sizeof(*link));
	struct fi_eq_cm_entry entry;

	if (!link)
		return PERF_FAILED;
	link->batch = run->path == &perf_path_batch;
	link->spin = run->options->spin_us > 0;
	if (find_provider(link, run->options) || open_domain(link, &run->pool) ||
	    (run->leads ? connect_link : accept_link)(run) ||
	    await_event(link, FI_CONNECTED, &entry))
		return PERF_FAILED;
	for (int i = 0; i < MAILS && !run->leads && run->job.op != PERF_SEND; i++) {
		if (post_mail(link, &link->mails[i]))
			return PERF_FAILED;
	}
	/* Tell each other where the pools are. */
	bool virtual = link->info->domain_attr->mr_mode & FI_MR_VIRT_ADDR;
	struct rkey own = { virtual ? (uintptr_t)run->pool.base : 0, fi_mr_key(link->mr) };
	return perf_put(run, &own, sizeof(own)) || perf_get(run, &link->remote, sizeof(own))
		       ? PERF_FAILED
		       : PERF_OK;
}

static void close_link(struct perf_run *run)
{
	struct link *link = run->own;

	if (!link)
		return;
	if (link->ep)
		fi_shutdown(link->ep, 0);
	/* A fid is the first member of what it belongs to. */
	void *const fids[] = { link->ep, link->pep,    link->mail_mr, link->mr,
			       link->cq, link->domain, link->eq,      link->fabric };
	for (size_t i = 0; i < sizeof(fids) / sizeof(fids[0]); i++)
		check("fi_close", fids[i] ? fi_close(fids[i]) : 0);
	if (link->info)
		fi_freeinfo(link->info);
	free(link);
}

#define OPERATIONS                                                                                 \
	.provider = "tcp", .open = open_link, .close = close_link, .send = send_message,           \
	.recv = receive_message, .move = start_transfer, .finish = finish_flight,                  \
	.tell = tell_stamp, .await_stamp = await_stamp

const struct perf_path perf_path_libfabric = { .name = "libfabric", OPERATIONS };
const struct perf_path perf_path_batch = { .name = "libfabric-batch", OPERATIONS };
