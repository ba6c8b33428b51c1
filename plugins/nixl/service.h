/* SPDX-License-Identifier: Apache-2.0 */
/*
 * service.h - an engine, and the threads that serve it: one accepts, one takes events and closes connections, and
 * each job (connecting to a peer) has one of its own for as long as it takes.
 */
#ifndef KVTRANS_PLUGINS_NIXL_SERVICE_H
#define KVTRANS_PLUGINS_NIXL_SERVICE_H

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_set>
#include <vector>

#include <kvtrans.h>

#include "interface.h"

namespace kvtrans
{

class Service
{
      public:
	/* Takes the engine over. */
	explicit Service(kvt_engine *engine);
	/* Gives notifications that are under way a moment, and ends everything else. */
	~Service();
	Service(const Service &) = delete;
	Service &operator=(const Service &) = delete;

	kvt_engine *engine() const
	{
		return engine_;
	}
	/* A connection that this side opened: that it has ended is for its owner to see, until close_later(). */
	void adopt(kvt_conn *conn);
	/* Close it soon, on another thread. */
	void close_later(kvt_conn *conn);
	void run(std::function<void()> job);
	/* What has come since the last call, appended. */
	void take_notifications(nixl::Notifications &notifications);
	/* Free a notification's transfer when it has ended. */
	void watch(kvt_transfer *notification);

      private:
	kvt_engine *engine_;
	int wake_fd_;
	std::mutex lock_;
	/* under lock_ */
	bool stopping_ = false;
	size_t jobs_ = 0;
	std::condition_variable idle_;
	std::unordered_set<kvt_conn *> accepted_;
	std::unordered_set<kvt_conn *> ended_; /* that the accepting thread has not told of yet */
	std::unordered_set<kvt_conn *> opened_;
	std::vector<kvt_conn *> closing_;
	std::deque<kvt_transfer *> sent_;
	nixl::Notifications arrived_;
	size_t arrived_len_ = 0;
	/* held while events are taken, and while a connection is closed: so no event is of a closed one */
	std::mutex events_lock_;
	std::thread acceptor_;
	std::thread server_;

	void accept();
	void serve();
	void wake();
	bool take_event();
	void take_events();
	void end(kvt_conn *conn);
	void close_conns();
	bool is_full();
	void wait_for_sent();
};

} /* namespace kvtrans */

#endif
