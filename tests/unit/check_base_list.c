/* SPDX-License-Identifier: Apache-2.0 */
/* check_base_list.c - the intrusive list of base/list.h. */
#include "base/list.h"
#include "../support/runner.h"

struct item {
	int value;
	struct kvi_list node;
};

static struct kvi_list list;
static struct item items[4];

static void make_list(void)
{
	kvi_list_init(&list);
	for (int i = 0; i < 4; i++) {
		items[i].value = i;
		kvi_list_init(&items[i].node);
	}
}

static int get_value(const struct kvi_list *node)
{
	return kvi_container_of(node, struct item, node)->value;
}

START_TEST(a_new_list_is_empty)
{
	ck_assert(kvi_list_is_empty(&list));
	ck_assert_ptr_null(kvi_list_get_first(&list));
	ck_assert_ptr_null(kvi_list_take_first(&list));
}
END_TEST

START_TEST(appended_nodes_come_in_order)
{
	for (int i = 0; i < 4; i++)
		kvi_list_append(&list, &items[i].node);

	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(get_value(kvi_list_take_first(&list)), i);
	ck_assert(kvi_list_is_empty(&list));
}
END_TEST

START_TEST(a_prepended_node_comes_first)
{
	kvi_list_append(&list, &items[0].node);
	kvi_list_append(&list, &items[1].node);
	kvi_list_prepend(&list, &items[2].node);

	ck_assert_int_eq(get_value(kvi_list_take_first(&list)), 2);
	ck_assert_int_eq(get_value(kvi_list_take_first(&list)), 0);
	ck_assert_int_eq(get_value(kvi_list_take_first(&list)), 1);
}
END_TEST

START_TEST(removing_twice_is_harmless)
{
	kvi_list_append(&list, &items[0].node);
	kvi_list_append(&list, &items[1].node);
	kvi_list_remove(&items[0].node);
	kvi_list_remove(&items[0].node);

	ck_assert(kvi_list_is_empty(&items[0].node));
	ck_assert_int_eq(get_value(kvi_list_get_first(&list)), 1);
}
END_TEST

START_TEST(moving_keeps_the_order)
{
	struct kvi_list other;
	kvi_list_init(&other);
	kvi_list_append(&list, &items[0].node);
	kvi_list_append(&other, &items[1].node);
	kvi_list_append(&other, &items[2].node);
	kvi_list_move_all(&list, &other);

	ck_assert(kvi_list_is_empty(&other));
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(get_value(kvi_list_take_first(&list)), i);
}
END_TEST

START_TEST(a_loop_may_remove_its_node)
{
	for (int i = 0; i < 4; i++)
		kvi_list_append(&list, &items[i].node);

	int seen = 0;
	kvi_list_for_each (node, next_node, &list) {
		ck_assert_int_eq(get_value(node), seen++);
		if (get_value(node) % 2 == 0)
			kvi_list_remove(node);
	}

	ck_assert_int_eq(seen, 4);
	ck_assert_int_eq(get_value(kvi_list_take_first(&list)), 1);
	ck_assert_int_eq(get_value(kvi_list_take_first(&list)), 3);
	ck_assert(kvi_list_is_empty(&list));
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("list");
	tcase_add_checked_fixture(tests, make_list, NULL);
	tcase_add_test(tests, a_new_list_is_empty);
	tcase_add_test(tests, appended_nodes_come_in_order);
	tcase_add_test(tests, a_prepended_node_comes_first);
	tcase_add_test(tests, removing_twice_is_harmless);
	tcase_add_test(tests, moving_keeps_the_order);
	tcase_add_test(tests, a_loop_may_remove_its_node);
	return run_tests("base_list", tests);
}
