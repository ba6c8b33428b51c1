/* SPDX-License-Identifier: Apache-2.0 */
/*
 * service.h - an engine, and the threads that serve it: one takes events and closes connections, and each job
 * (connecting to a peer) has one of its own for as long as it takes.
 */
#ifndef KVTRANS_PLUGINS_NIXL_SERVICE_H
#define KVTRANS_PLUGINS_NIXL_SERVICE_H

#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_set>
#include <vector>

#include <sys/types.h>

#include <kvtrans.h>

#include "interface.h"

namespace kvtrans
{

class Service
{
      public:
	/* Takes the engine over. Throws std::runtime_error. */
	explicit Service(kvt_engine *engine);
	~Service();
	Service(const Service &) = delete;
	Service &operator=(const Service &) = delete;

	kvt_engine *engine() const
	{
		return engine_;
	}
	/* In the child of a fork: none of the threads is there, and their locks may be held for ever. */
	bool is_forked() const;
	/* Close it soon, on another thread. */
	void close_later(kvt_conn *conn);
	/* Throws std::system_error when there is no thread to be had. */
	void run(std::function<void()> job);
	/* What has come since the last call, appended. */
	void take_notifications(nixl::Notifications &notifications);
	/* Start to send a notification. That it was not delivered is told on stderr. */
	enum kvt_err send(kvt_conn *conn, const std::string &text);
	/* Whether some of these have not arrived. */
	bool is_sending();

      private:
	kvt_engine *engine_;
	int wake_fd_;
	const pid_t pid_;
	std::mutex lock_;
	/* under lock_ */
	bool stopping_ = false;
	size_t jobs_ = 0;
	std::condition_variable idle_;
	std::unordered_set<kvt_conn *> accepted_;
	std::vector<kvt_conn *> closing_;
	std::unordered_set<kvt_transfer *> sent_; /* that have not arrived */
	nixl::Notifications arrived_;
	size_t arrived_len_ = 0;
	/* held while events are taken, so that notifications keep their order */
	std::mutex events_lock_;
	std::thread server_;

	void serve();
	void wake();
	bool take_event(unsigned kinds);
	void take_events();
	void end(kvt_conn *conn);
	void close_conns();
	unsigned get_wanted();
	void free_sent();
};

} /* namespace kvtrans */

#endif
