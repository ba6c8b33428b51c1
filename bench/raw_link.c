/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raw_link.c - see raw_link.h. It never decides what is sent.
 */
#include "raw_link.h"

#include <err.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>
#include <stdlib.h>
#include <string.h>

enum { CQ_LEN = 1024, NAME_LEN_MAX = 128, CONNECT_MS = 10000, SLEEP_MS = 1000 };

/* What the listening side tells the other one over their local socket. */
struct offer {
	char name[NAME_LEN_MAX];
	size_t name_len;
};

struct grant {
	uint64_t address;
	uint64_t key;
};

static int fail(const char *call, long rc)
{
	warnx("%s: %s", call, fi_strerror((int)-rc));
	return -1;
}

/* Ask for the named provider at the options' address; the forked process is its passive side
 * too. */
static int find_provider(struct raw_link *link, const struct raw_options *options)
{
	struct fi_info *hints = fi_allocinfo();

	if (!hints)
		return fail("fi_allocinfo", -FI_ENOMEM);
	hints->caps = FI_MSG | FI_RMA;
	hints->ep_attr->type = FI_EP_MSG;
	hints->domain_attr->mr_mode = FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED |
				      FI_MR_PROV_KEY;
	hints->fabric_attr->prov_name = strdup(options->provider);
	int rc = fi_getinfo(FI_VERSION(1, 17), options->host, "0", FI_SOURCE, hints, &link->info);
	fi_freeinfo(hints);
	if (rc) {
		warnx("provider %s offers no connected endpoint with RMA at %s: %s",
		      options->provider, options->host, fi_strerror(-rc));
		return -1;
	}
	return 0;
}

static int open_domain(struct raw_link *link, const struct perf_pool *pool)
{
	struct fi_eq_attr eq_attr = { .wait_obj = FI_WAIT_UNSPEC };
	struct fi_cq_attr cq_attr = {
		.size = CQ_LEN,
		.format = FI_CQ_FORMAT_MSG,
		.wait_obj = link->spin ? FI_WAIT_NONE : FI_WAIT_UNSPEC,
	};
	long rc;

	if ((rc = fi_fabric(link->info->fabric_attr, &link->fabric, NULL)))
		return fail("fi_fabric", rc);
	if ((rc = fi_eq_open(link->fabric, &eq_attr, &link->eq, NULL)))
		return fail("fi_eq_open", rc);
	if ((rc = fi_domain(link->fabric, link->info, &link->domain, NULL)))
		return fail("fi_domain", rc);
	if ((rc = fi_cq_open(link->domain, &cq_attr, &link->cq, NULL)))
		return fail("fi_cq_open", rc);
	uint64_t access = FI_SEND | FI_RECV | FI_WRITE | FI_REMOTE_WRITE | FI_READ | FI_REMOTE_READ;
	if ((rc = fi_mr_reg(link->domain, pool->base, pool->len, access, 0, 42, 0, &link->mr,
			    NULL)))
		return fail("fi_mr_reg", rc);
	link->desc = fi_mr_desc(link->mr);
	return 0;
}

static int open_endpoint(struct raw_link *link, struct fi_info *info)
{
	long rc;

	if ((rc = fi_endpoint(link->domain, info, &link->ep, NULL)))
		return fail("fi_endpoint", rc);
	if ((rc = fi_ep_bind(link->ep, &link->eq->fid, 0)))
		return fail("fi_ep_bind", rc);
	if ((rc = fi_ep_bind(link->ep, &link->cq->fid, FI_TRANSMIT | FI_RECV)))
		return fail("fi_ep_bind", rc);
	if ((rc = fi_enable(link->ep)))
		return fail("fi_enable", rc);
	return 0;
}

/* Wait for one event of the connection manager, which must be the wanted one. */
static int await_event(struct raw_link *link, uint32_t wanted, struct fi_eq_cm_entry *entry)
{
	struct fi_eq_err_entry cause = { 0 };
	uint32_t event = 0;
	long rc = fi_eq_sread(link->eq, &event, entry, sizeof(*entry), CONNECT_MS, 0);

	if (rc == -FI_EAVAIL && fi_eq_readerr(link->eq, &cause, 0) > 0)
		return fail("connecting", -cause.err);
	if (rc < 0)
		return fail("connecting", rc == -FI_EAGAIN ? -FI_ETIMEDOUT : rc);
	if (event != wanted)
		return fail("connecting", -FI_ECONNREFUSED);
	return 0;
}

static int accept_link(struct raw_link *link, int control)
{
	struct fi_eq_cm_entry entry;
	struct offer offer = { .name_len = NAME_LEN_MAX };
	long rc;

	if ((rc = fi_passive_ep(link->fabric, link->info, &link->pep, NULL)))
		return fail("fi_passive_ep", rc);
	if ((rc = fi_pep_bind(link->pep, &link->eq->fid, 0)))
		return fail("fi_pep_bind", rc);
	if ((rc = fi_listen(link->pep)))
		return fail("fi_listen", rc);
	if ((rc = fi_getname(&link->pep->fid, offer.name, &offer.name_len)))
		return fail("fi_getname", rc);
	if (raw_put(control, &offer, sizeof(offer)) || await_event(link, FI_CONNREQ, &entry))
		return -1;
	int opened = open_endpoint(link, entry.info);
	fi_freeinfo(entry.info);
	if (opened)
		return -1;
	if ((rc = fi_accept(link->ep, NULL, 0)))
		return fail("fi_accept", rc);
	return await_event(link, FI_CONNECTED, &entry);
}

static int connect_link(struct raw_link *link, int control)
{
	struct fi_eq_cm_entry entry;
	struct offer offer;
	long rc;

	if (raw_get(control, &offer, sizeof(offer)))
		return -1;
	link->info->dest_addr = malloc(offer.name_len);
	if (!link->info->dest_addr)
		return fail("malloc", -FI_ENOMEM);
	memcpy(link->info->dest_addr, offer.name, offer.name_len);
	link->info->dest_addrlen = offer.name_len;
	if (open_endpoint(link, link->info))
		return -1;
	if ((rc = fi_connect(link->ep, offer.name, NULL, 0)))
		return fail("fi_connect", rc);
	return await_event(link, FI_CONNECTED, &entry);
}

/* Tell each other where the pools are. */
static int exchange_grants(struct raw_link *link, int control, const struct perf_pool *pool)
{
	bool virtual = link->info->domain_attr->mr_mode & FI_MR_VIRT_ADDR;
	struct grant own = { virtual ? (uintptr_t)pool->base : 0, fi_mr_key(link->mr) };
	struct grant theirs;

	if (raw_put(control, &own, sizeof(own)) || raw_get(control, &theirs, sizeof(theirs)))
		return -1;
	link->remote_address = theirs.address;
	link->remote_key = theirs.key;
	return 0;
}

int raw_link_open(struct raw_link *link, const struct raw_options *options,
		  const struct raw_peer *peer, const struct perf_pool *pool)
{
	*link = (struct raw_link){ .spin = options->spin };
	/* A cached registration would outlive its close; the library measured against has it off
	 * too. */
	setenv("FI_MR_CACHE_MAX_COUNT", "0", 0);
	if (find_provider(link, options) || open_domain(link, pool))
		return -1;
	if (peer->pid ? connect_link(link, peer->fd) : accept_link(link, peer->fd))
		return -1;
	return exchange_grants(link, peer->fd, pool);
}

static void close_fid(struct fid *fid)
{
	long rc = fi_close(fid);

	if (rc)
		fail("fi_close", rc);
}

void raw_link_close(struct raw_link *link)
{
	if (link->ep) {
		fi_shutdown(link->ep, 0);
		close_fid(&link->ep->fid);
	}
	if (link->pep)
		close_fid(&link->pep->fid);
	if (link->mr)
		close_fid(&link->mr->fid);
	if (link->cq)
		close_fid(&link->cq->fid);
	if (link->domain)
		close_fid(&link->domain->fid);
	if (link->eq)
		close_fid(&link->eq->fid);
	if (link->fabric)
		close_fid(&link->fabric->fid);
	if (link->info)
		fi_freeinfo(link->info);
}

int raw_link_receive(struct raw_link *link, void *base, size_t len, void *context)
{
	long rc = fi_recv(link->ep, base, len, link->desc, 0, context);

	return rc ? fail("fi_recv", rc) : 0;
}

int raw_link_send(struct raw_link *link, const void *base, size_t len, void *context)
{
	bool inject = len <= link->info->tx_attr->inject_size;
	long rc;

	/* One message is on its way at a time, so the queue has room; tcp may still say EAGAIN
	 * once. */
	do {
		if (inject)
			rc = fi_inject(link->ep, base, len, 0);
		else
			rc = fi_send(link->ep, base, len, link->desc, 0, context);
	} while (rc == -FI_EAGAIN);
	return rc ? fail("fi_send", rc) : 0;
}

/* What a read of the queue found: 1, 0, or -1 after the cause was printed. */
static int take_completion(struct raw_link *link, long rc)
{
	struct fi_cq_err_entry cause = { 0 };

	if (rc == 1)
		return 1;
	if (rc == -FI_EAGAIN || rc == -FI_EINTR)
		return 0;
	if (rc == -FI_EAVAIL && fi_cq_readerr(link->cq, &cause, 0) > 0)
		return fail("an operation", -cause.err);
	return fail("fi_cq_read", rc);
}

int raw_link_poll(struct raw_link *link, void **context, uint64_t *flags)
{
	struct fi_cq_msg_entry entry;
	int found = take_completion(link, fi_cq_read(link->cq, &entry, 1));

	if (found == 1) {
		*context = entry.op_context;
		*flags = entry.flags;
	}
	return found;
}

int raw_link_wait(struct raw_link *link, void **context, uint64_t *flags)
{
	struct fi_cq_msg_entry entry;
	int found;

	do {
		long rc = link->spin ? fi_cq_read(link->cq, &entry, 1)
				     : fi_cq_sread(link->cq, &entry, 1, NULL, SLEEP_MS);
		found = take_completion(link, rc);
	} while (!found);
	if (found < 0)
		return -1;
	*context = entry.op_context;
	*flags = entry.flags;
	return 0;
}
