# SPDX-License-Identifier: Apache-2.0
# Documents travel in the tarball; manual pages (dist_man_MANS) are installed.

EXTRA_DIST += \
	CHANGELOG.md \
	README.md \
	docs/architecture.md \
	docs/man/kvtrans-perf.1.md \
	docs/protocol.md \
	docs/providers.md \
	docs/python.md \
	docs/threading.md
