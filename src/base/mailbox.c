/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mailbox.c - a lock-free stack. The taker takes all of it at once and reverses the order. It never blocks and
 * never allocates.
 */
#include "base/mailbox.h"

#include <stddef.h>

/* Concurrency Kit orders memory in inline assembly, which ThreadSanitizer cannot see: so we tell it
 * what is ordered, and to ignore the links themselves. */
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
void AnnotateIgnoreReadsBegin(const char *file, int line);
void AnnotateIgnoreReadsEnd(const char *file, int line);
void AnnotateIgnoreWritesBegin(const char *file, int line);
void AnnotateIgnoreWritesEnd(const char *file, int line);

static void begin_links(void)
{
	AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
	AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
}

static void end_links(void)
{
	AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
	AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
}

#define show_release __tsan_release
#define show_acquire __tsan_acquire
#else
static inline void begin_links(void)
{
}

static inline void end_links(void)
{
}

static inline void show_release(struct kvi_mailbox *mailbox)
{
	(void)mailbox;
}

static inline void show_acquire(struct kvi_mailbox *mailbox)
{
	(void)mailbox;
}
#endif

void kvi_mailbox_init(struct kvi_mailbox *mailbox)
{
	ck_stack_init(&mailbox->sent);
	mailbox->sorted = NULL;
}

void kvi_mailbox_send(struct kvi_mailbox *mailbox, struct kvi_mail *mail)
{
	show_release(mailbox);
	begin_links();
	ck_stack_push_upmc(&mailbox->sent, &mail->entry);
	end_links();
}

static struct kvi_mail *get_mail(struct ck_stack_entry *entry)
{
	return entry == NULL
		       ? NULL
		       : (struct kvi_mail *)((char *)entry - offsetof(struct kvi_mail, entry));
}

/* Everything that was sent, oldest first; NULL when there is nothing. */
static struct kvi_mail *take_all(struct kvi_mailbox *mailbox)
{
	struct ck_stack_entry *newest = ck_stack_batch_pop_upmc(&mailbox->sent);
	struct ck_stack_entry *oldest = NULL;
	while (newest != NULL) {
		struct ck_stack_entry *next = newest->next;
		newest->next = oldest;
		oldest = newest;
		newest = next;
	}
	return get_mail(oldest);
}

struct kvi_mail *kvi_mailbox_take(struct kvi_mailbox *mailbox)
{
	begin_links();
	if (mailbox->sorted == NULL && !CK_STACK_ISEMPTY(&mailbox->sent)) {
		mailbox->sorted = take_all(mailbox);
		show_acquire(mailbox);
	}
	struct kvi_mail *mail = mailbox->sorted;
	if (mail != NULL)
		mailbox->sorted = get_mail(mail->entry.next);
	end_links();
	return mail;
}
