/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raw_pages.c - see raw_pages.h. Each operation asks for FI_DELIVERY_COMPLETE: without it a
 * provider may call a block written that is still in a buffer of this side. It never merges blocks:
 * that is what the library is there for.
 */
#include "raw_pages.h"
#include "raw_link.h"

#include <err.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>
#include <stdlib.h>

/* Words the forked process can take without posting another receive. */
enum { MAILS = 64, MAIL_KEY = 43 };

struct pages {
	struct raw_link link;
	struct fid_mr *mail_mr;
	void *mail_desc;
	uint64_t mails[MAILS];
};

static int fail(const char *call, long rc)
{
	warnx("%s: %s", call, fi_strerror((int)-rc));
	return -1;
}

static int post_mail(struct pages *pages, uint64_t *mail)
{
	long rc = fi_recv(pages->link.ep, mail, sizeof(*mail), pages->mail_desc, 0, mail);

	return rc ? fail("fi_recv", rc) : 0;
}

static int open_pages(struct raw_paged *paged)
{
	struct pages *pages = calloc(1, sizeof(*pages));
	uint64_t ready = 0;

	if (!pages)
		return fail("calloc", -FI_ENOMEM);
	paged->own = pages;
	if (raw_link_open(&pages->link, paged->options, paged->peer, &paged->pool))
		return -1;
	long rc = fi_mr_reg(pages->link.domain, pages->mails, sizeof(pages->mails),
			    FI_SEND | FI_RECV, 0, MAIL_KEY, 0, &pages->mail_mr, NULL);
	if (rc)
		return fail("fi_mr_reg", rc);
	pages->mail_desc = fi_mr_desc(pages->mail_mr);
	if (paged->peer->pid)
		return raw_get(paged->peer->fd, &ready, sizeof(ready));
	for (size_t i = 0; i < MAILS; i++) {
		if (post_mail(pages, &pages->mails[i]))
			return -1;
	}
	return raw_put(paged->peer->fd, &ready, sizeof(ready));
}

static void close_pages(struct raw_paged *paged)
{
	struct pages *pages = paged->own;

	if (!pages)
		return;
	if (pages->mail_mr)
		fi_close(&pages->mail_mr->fid);
	raw_link_close(&pages->link);
	free(pages);
}

/* Take completions, at least one when asked to wait for it. */
static int reap(struct pages *pages, bool wait)
{
	void *context;
	uint64_t flags;
	int found = wait ? !raw_link_wait(&pages->link, &context, &flags)
			 : raw_link_poll(&pages->link, &context, &flags);

	if (wait && !found)
		return -1;
	for (; found > 0; found = raw_link_poll(&pages->link, &context, &flags)) {
		struct raw_flight *flight = context;
		flight->pending--;
	}
	return found;
}

static int post_block(struct raw_paged *paged, struct raw_flight *flight, size_t i)
{
	struct pages *pages = paged->own;
	struct raw_link *link = &pages->link;
	size_t len = paged->options->block_len;
	struct iovec iov = { paged->pool.base + flight->local[i] * len, len };
	struct fi_rma_iov remote = { link->remote_address + flight->remote[i] * len, len,
				     link->remote_key };
	struct fi_msg_rma message = {
		.msg_iov = &iov,
		.desc = &link->desc,
		.iov_count = 1,
		.rma_iov = &remote,
		.rma_iov_count = 1,
		.context = flight,
	};
	bool writes = paged->options->op == RAW_WRITE;
	long rc;

	do {
		if (writes)
			rc = fi_writemsg(link->ep, &message, FI_COMPLETION | FI_DELIVERY_COMPLETE);
		else
			rc = fi_readmsg(link->ep, &message, FI_COMPLETION);
		if (rc == -FI_EAGAIN && reap(pages, false) < 0)
			return -1;
	} while (rc == -FI_EAGAIN);
	if (rc)
		return fail(writes ? "fi_writemsg" : "fi_readmsg", rc);
	flight->pending++;
	return 0;
}

static int post_transfer(struct raw_paged *paged, struct raw_flight *flight)
{
	for (size_t i = 0; i < paged->options->count; i++) {
		if (post_block(paged, flight, i))
			return -1;
	}
	return 0;
}

static int finish_transfer(struct raw_paged *paged, struct raw_flight *flight)
{
	while (flight->pending) {
		if (reap(paged->own, true))
			return -1;
	}
	return 0;
}

static int tell_word(struct raw_paged *paged, uint64_t word)
{
	struct pages *pages = paged->own;
	long rc;

	/* The smallest messages are copied by every provider, and complete without a trace. */
	while ((rc = fi_inject(pages->link.ep, &word, sizeof(word), 0)) == -FI_EAGAIN) {
		if (reap(pages, false) < 0)
			return -1;
	}
	return rc ? fail("fi_inject", rc) : 0;
}

static int hear_word(struct raw_paged *paged, uint64_t *word)
{
	struct pages *pages = paged->own;
	void *context;
	uint64_t flags;

	if (raw_link_wait(&pages->link, &context, &flags))
		return -1;
	uint64_t *mail = context;
	*word = *mail;
	return post_mail(pages, mail);
}

const struct raw_path raw_pages_path = {
	.tool = "raw_fabric",
	.open = open_pages,
	.close = close_pages,
	.post = post_transfer,
	.finish = finish_transfer,
	.tell = tell_word,
	.hear = hear_word,
};
