/* SPDX-License-Identifier: MIT */
/* The text of /proc/PID/fdinfo/FD, cut anywhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "src/target/fdinfo.h"

static void fdinfo_of_any_bytes(void **state)
{
	static const char text[] =
		"pos:\t-5\nflags:\t02100002\nmnt_id:\t-1\nino:\t3\n"
		"eventfd-count:               ff\neventfd-id: 3\n"
		"sigmask:\t8000000000000001\nclockid: 1\nticks: 7\n"
		"settime flags: 03\nit_value: (1, 5)\nit_interval: (2, 6)\n"
		"tfd:        5 events: 80000019 data:  fffffffffffffff0  pos:0 "
		"ino:45 sdev:f\ntfd: 6 events: 1 data: 2\ntfd: 7 events: 1 data: 3 ino:9\ntfd: 7 events: x\n"
		"Pid:\t12\nNSpid:\t12\t3\n";
	struct model *m = model_new(0);
	struct fdinfo info;

	assert_int_equal(fdinfo_parse(text, &info), 0);
	assert_true(info.pos == (uint64_t)-5);
	assert_int_equal(info.flags, O_CLOEXEC | 0100002);
	assert_int_equal(info.mnt_id, -1);
	assert_int_equal(info.object, 3);
	assert_int_equal(fdinfo_parse("pos:\t0\n", &info), -EBADMSG);
	assert_int_equal(fdinfo_parse("", &info), -EBADMSG);
	for (size_t len = 0; len < sizeof(text); len++) {
		char *cut = strndup(text, len);

		for (int type = M_FILE_UND; type <= M_FILE_PIDFD; type++) {
			struct m_file file = {.type = (enum m_file_type)type};

			fdinfo_parse(cut, &info);
			assert_int_equal(fdinfo_fill(m, cut, &file), 0);
			if (len < sizeof(text) - 1)
				continue;
			if (type == M_FILE_EVENTPOLL) {
				assert_int_equal(file.ntargets, 3);
				assert_int_equal(file.targets[0].ino, 0x45);
				assert_int_equal(file.targets[1].ino, 0);
				assert_int_equal(file.targets[2].ino, 9);
				assert_true(file.targets[0].data == 0xfffffffffffffff0ULL);
			} else if (type == M_FILE_PIDFD) {
				assert_int_equal(file.pidfd_pid, 3);
			} else if (type == M_FILE_TIMERFD) {
				assert_int_equal(file.timerfd.ticks, 7);
				assert_int_equal(file.timerfd.settime_flags, 3);
				assert_true(file.timerfd.value_ns == 1000000005);
				assert_true(file.timerfd.interval_ns == 2000000006);
			} else if (type == M_FILE_SIGNALFD) {
				assert_true(file.signalfd_mask == 0x8000000000000001ULL);
			} else if (type == M_FILE_EVENTFD) {
				assert_int_equal(file.eventfd_count, 0xff);
			}
		}
		free(cut);
	}
	model_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fdinfo_of_any_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
