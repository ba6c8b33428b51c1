# SPDX-License-Identifier: Apache-2.0
# Documents travel in the tarball; manual pages (dist_man_MANS) are installed.

dist_man_MANS = \
	docs/man/kvtrans-info.1 \
	docs/man/kvtrans-key.1 \
	docs/man/kvtrans-perf.1

EXTRA_DIST += \
	CHANGELOG.md \
	README.md \
	docs/architecture.md \
	docs/glossary.md \
	docs/integrations.md \
	docs/operations.md \
	docs/one_host.md \
	docs/protocol.md \
	docs/providers.md \
	docs/python.md \
	docs/testing.md \
	docs/threading.md
