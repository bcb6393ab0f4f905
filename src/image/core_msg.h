/* SPDX-License-Identifier: MIT */
/*
 * A core message with room for everything it points to, so that two files can fill it.
 */
#ifndef IMAGE_CORE_MSG_H
#define IMAGE_CORE_MSG_H

#include "src/image/meta.h"
#include "src/image/regs.h"

enum {
	CORE_NSIGACTIONS = 62, /* signals 1 to 64 without SIGKILL and SIGSTOP */
};

struct core_msg {
	Im__Core core;
	struct regs_x86 x86;
	struct regs_aarch64 aarch64;
	struct regs_ppc64 ppc64;
	struct regs_s390 s390;
	/* of a thread */
	Im__ThreadState thread;
	Im__AltStack sas;
	Im__SignalQueue signals_p;
	Im__Creds creds;
	uint32_t caps[5][2];
	Im__Rseq rseq;
	Im__ThreadMore thread_more;
	/* of a process */
	Im__TaskState task;
	Im__Timers timers;
	Im__IntervalTimer itimers[3];
	Im__Rlimits rlimits;
	Im__Rlimit rlimit[M_NRLIMITS], *prlimit[M_NRLIMITS];
	Im__SignalQueue signals_s;
	Im__SignalAction sa[CORE_NSIGACTIONS], *psa[CORE_NSIGACTIONS];
	Im__TaskMore task_more;
	Im__Namespaces ns;
};

/* Fill the thread's half of @c; false when the scratch arena is full. */
bool core_put_thread(struct core_msg *c, struct arena *a, const struct model *m,
		     const struct m_thread *t, bool leader);
bool core_put_signals(Im__SignalQueue *s, struct arena *a, const struct m_sigqueue *q);

/* The thread's half of a message into the model: -ENOMEM, -EBADMSG with @name. */
int core_get_thread(struct meta_in *in, const char *name, struct m_thread *t, const Im__Core *core);
int core_get_signals(struct meta_in *in, const char *name, const Im__SignalQueue *queue,
		     struct m_sigqueue *ret);

/* A process or thread name into a comm field; longer ones are cut. */
void core_get_comm(char to[16], const char *from);

#endif
