/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_fabric.c - the conformance tests of fabric.h on a provider, and what else there is to try on it: on
 * libfabric a hostile peer that uses libfabric by itself. KVT_TEST_PROVIDER and KVT_TEST_INTERFACE choose what is
 * tested; KVT_TEST_NO_PULLING=1: without process_vm_readv().
 */
#include "hostile.h"
#include "test_local.h"

#include <stdlib.h>

int main(void)
{
	const char *provider = getenv("KVT_TEST_PROVIDER");
	if (getenv("KVT_TEST_NO_PULLING") != NULL)
		forbid_pulling();
	bool is_local = provider != NULL && strcmp(provider, "local") == 0;
	return run_conformance("tcp", "lo", is_local ? make_local_suite() : make_hostile_suite());
}
