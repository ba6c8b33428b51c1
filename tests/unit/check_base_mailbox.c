/* SPDX-License-Identifier: Apache-2.0 */
/* check_base_mailbox.c - the queue of base/mailbox.h, alone and under many senders. */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "base/mailbox.h"
#include "../support/runner.h"

enum { SENDERS = 3, LETTERS = 5000 };

struct letter {
	struct kvi_mail mail; /* first */
	int sender;
	int number;
};

static struct letter *take(struct kvi_mailbox *mailbox)
{
	return (struct letter *)kvi_mailbox_take(mailbox);
}

START_TEST(mail_comes_in_the_order_it_was_sent)
{
	struct kvi_mailbox mailbox;
	struct letter letters[8];
	kvi_mailbox_init(&mailbox);
	ck_assert_ptr_null(take(&mailbox));
	for (int i = 0; i < 8; i++)
		kvi_mailbox_send(&mailbox, &letters[i].mail);

	for (int i = 0; i < 8; i++)
		ck_assert_ptr_eq(take(&mailbox), &letters[i]);
	ck_assert_ptr_null(take(&mailbox));
}
END_TEST

START_TEST(what_is_sent_between_takes_comes_after_what_was_there)
{
	struct kvi_mailbox mailbox;
	struct letter letters[3];
	kvi_mailbox_init(&mailbox);
	kvi_mailbox_send(&mailbox, &letters[0].mail);
	kvi_mailbox_send(&mailbox, &letters[1].mail);
	ck_assert_ptr_eq(take(&mailbox), &letters[0]);
	kvi_mailbox_send(&mailbox, &letters[2].mail);
	kvi_mailbox_send(&mailbox, &letters[0].mail); /* taken mail may be sent again */

	ck_assert_ptr_eq(take(&mailbox), &letters[1]);
	ck_assert_ptr_eq(take(&mailbox), &letters[2]);
	ck_assert_ptr_eq(take(&mailbox), &letters[0]);
	ck_assert_ptr_null(take(&mailbox));
}
END_TEST

struct sender {
	pthread_t thread;
	struct kvi_mailbox *mailbox;
	int index;
};

static void *send_letters(void *arg)
{
	struct sender *sender = arg;
	for (int i = 0; i < LETTERS; i++) {
		struct letter *letter = malloc(sizeof(*letter));
		letter->sender = sender->index;
		letter->number = i;
		kvi_mailbox_send(sender->mailbox, &letter->mail);
	}
	return NULL;
}

START_TEST(every_letter_of_every_sender_arrives_once_and_in_its_order)
{
	struct kvi_mailbox mailbox;
	struct sender senders[SENDERS];
	kvi_mailbox_init(&mailbox);
	for (int i = 0; i < SENDERS; i++) {
		senders[i] = (struct sender){ .mailbox = &mailbox, .index = i };
		pthread_create(&senders[i].thread, NULL, send_letters, &senders[i]);
	}

	int next[SENDERS] = { 0 };
	for (int seen = 0; seen < SENDERS * LETTERS;) {
		struct letter *letter = take(&mailbox);
		if (letter == NULL) {
			sched_yield();
			continue;
		}
		ck_assert_int_eq(letter->number, next[letter->sender]++);
		free(letter);
		seen++;
	}

	for (int i = 0; i < SENDERS; i++)
		pthread_join(senders[i].thread, NULL);
	ck_assert_ptr_null(take(&mailbox));
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("mailbox");
	tcase_set_timeout(tests, 30); /* machines are busy, sanitizers slow */
	tcase_add_test(tests, mail_comes_in_the_order_it_was_sent);
	tcase_add_test(tests, what_is_sent_between_takes_comes_after_what_was_there);
	tcase_add_test(tests, every_letter_of_every_sender_arrives_once_and_in_its_order);
	return run_tests("base_mailbox", tests);
}
