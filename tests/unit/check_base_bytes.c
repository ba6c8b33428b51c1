/* SPDX-License-Identifier: Apache-2.0 */
/* check_base_bytes.c - the reader and writer of base/bytes.h. */
#include "base/bytes.h"
#include "../support/runner.h"

START_TEST(numbers_are_little_endian)
{
	static const uint8_t wanted[] = { 0x01, 0x03, 0x02, 0x07, 0x06, 0x05, 0x04, 0x0f,
					  0x0e, 0x0d, 0x0c, 0x0b, 0x0a, 0x09, 0x08 };
	uint8_t bytes[sizeof(wanted)];
	struct kvi_writer writer = kvi_writer_init(bytes, sizeof(bytes));
	kvi_write_u8(&writer, 0x01);
	kvi_write_u16(&writer, 0x0203);
	kvi_write_u32(&writer, 0x04050607);
	kvi_write_u64(&writer, UINT64_C(0x08090a0b0c0d0e0f));

	ck_assert(!writer.bad);
	ck_assert_uint_eq(kvi_writer_get_len(&writer), sizeof(wanted));
	ck_assert_mem_eq(bytes, wanted, sizeof(wanted));
}
END_TEST

START_TEST(what_was_written_is_read)
{
	uint8_t bytes[15];
	struct kvi_writer writer = kvi_writer_init(bytes, sizeof(bytes));
	kvi_write_u64(&writer, UINT64_MAX - 1);
	kvi_write_u32(&writer, UINT32_MAX - 1);
	kvi_write_u16(&writer, UINT16_MAX - 1);
	kvi_write_u8(&writer, UINT8_MAX - 1);
	struct kvi_reader reader = kvi_reader_init(bytes, sizeof(bytes));

	ck_assert_uint_eq(kvi_read_u64(&reader), UINT64_MAX - 1);
	ck_assert_uint_eq(kvi_read_u32(&reader), UINT32_MAX - 1);
	ck_assert_uint_eq(kvi_read_u16(&reader), UINT16_MAX - 1);
	ck_assert_uint_eq(kvi_read_u8(&reader), UINT8_MAX - 1);
	ck_assert_uint_eq(kvi_reader_get_left(&reader), 0);
	ck_assert(!reader.bad);
}
END_TEST

START_TEST(reading_beyond_the_end_is_bad_for_good)
{
	static const uint8_t bytes[] = { 1, 2, 3 };
	struct kvi_reader reader = kvi_reader_init(bytes, sizeof(bytes));

	ck_assert_uint_eq(kvi_read_u32(&reader), 0);
	ck_assert(reader.bad);
	ck_assert_uint_eq(kvi_read_u8(&reader), 0);
	ck_assert_ptr_null(kvi_read_bytes(&reader, 0));
}
END_TEST

START_TEST(bytes_are_read_in_place)
{
	static const uint8_t bytes[] = { 1, 2, 3 };
	struct kvi_reader reader = kvi_reader_init(bytes, sizeof(bytes));

	ck_assert_ptr_eq(kvi_read_bytes(&reader, 2), bytes);
	ck_assert_ptr_eq(kvi_read_bytes(&reader, 0), bytes + 2);
	ck_assert_ptr_null(kvi_read_bytes(&reader, SIZE_MAX));
	ck_assert(reader.bad);
}
END_TEST

START_TEST(writing_beyond_the_end_writes_nothing_more)
{
	uint8_t bytes[4] = { 9, 9, 9, 9 };
	struct kvi_writer writer = kvi_writer_init(bytes, 3);
	kvi_write_u16(&writer, 0x0101);
	kvi_write_u16(&writer, 0x0202);
	kvi_write_u8(&writer, 3);

	static const uint8_t wanted[] = { 1, 1, 9, 9 };
	ck_assert(writer.bad);
	ck_assert_mem_eq(bytes, wanted, sizeof(wanted));
}
END_TEST

START_TEST(no_bytes_fit_anywhere)
{
	uint8_t byte;
	struct kvi_writer writer = kvi_writer_init(&byte, 0);
	kvi_write_bytes(&writer, NULL, 0);

	ck_assert(!writer.bad);
	ck_assert_uint_eq(kvi_writer_get_len(&writer), 0);
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("bytes");
	tcase_add_test(tests, numbers_are_little_endian);
	tcase_add_test(tests, what_was_written_is_read);
	tcase_add_test(tests, reading_beyond_the_end_is_bad_for_good);
	tcase_add_test(tests, bytes_are_read_in_place);
	tcase_add_test(tests, writing_beyond_the_end_writes_nothing_more);
	tcase_add_test(tests, no_bytes_fit_anywhere);
	return run_tests("base_bytes", tests);
}
