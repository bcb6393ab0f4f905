/* SPDX-License-Identifier: MIT */
/*
 * What an s390x kernel keeps to itself of a thread's register sets: proved without us, by ptrace
 * alone. tests/lib/regsets.py leaves out these, and no other.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ORIG_GPR2 = 208, PRSTATUS_LEN = 216, SVC_LEN = 2, PAGE = 4096 };

static struct shared {
	volatile uint32_t second; /* the child goes on to the second loop */
	volatile uint32_t in;	  /* the loop that it is in */
} * shared;

static pid_t child;

static void spin(void)
{
	/* To the kernel by a fault: an emulator may note the branch before nothing else. */
	*((volatile uint8_t *)shared + PAGE) = 1;
	for (shared->in = 2;;)
		;
}

/* Called where it says: an emulator may note only branches to an address in a register. */
static void (*volatile second)(void) = spin;

static int start(void **state)
{
	shared = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (shared->in = 1; !shared->second;)
			;
		second();
	}
	while (shared->in != 1)
		usleep(1000);
	return ptrace(PTRACE_SEIZE, child, 0, 0) < 0;
}

static int end(void **state)
{
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	munmap(shared, 2 * PAGE);
	return 0;
}

static void stop(void)
{
	int status;

	assert_int_equal(ptrace(PTRACE_INTERRUPT, child, 0, 0), 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSTOPPED(status));
}

static void go_on(void)
{
	assert_int_equal(ptrace(PTRACE_CONT, child, 0, 0), 0);
}

static int get(uint32_t note, void *buf, size_t len)
{
	struct iovec iov = {buf, len};

	return ptrace(PTRACE_GETREGSET, child, (void *)(uintptr_t)note, &iov) < 0 ? -errno : 0;
}

static int set(uint32_t note, void *buf, size_t len)
{
	struct iovec iov = {buf, len};

	return ptrace(PTRACE_SETREGSET, child, (void *)(uintptr_t)note, &iov) < 0 ? -errno : 0;
}

/* The branch before the last way into the kernel: taken from whoever writes it, and not written. */
static void last_break(void **state)
{
	uint64_t first, now, other = 0x123456789abcull;

	stop();
	assert_int_equal(get(NT_S390_LAST_BREAK, &first, sizeof(first)), 0);
	assert_int_equal(set(NT_S390_LAST_BREAK, &other, sizeof(other)), 0);
	assert_int_equal(get(NT_S390_LAST_BREAK, &now, sizeof(now)), 0);
	assert_true(now == first);
	/* It changes as the program goes on, and by nobody's hand. */
	shared->second = 1;
	go_on();
	while (shared->in != 2)
		usleep(1000);
	usleep(50000);
	stop();
	assert_int_equal(get(NT_S390_LAST_BREAK, &now, sizeof(now)), 0);
	assert_true(now != first && now != other);
	go_on();
}

/*
 * The number of the call that was interrupted is what the last way into the kernel was: it takes
 * what is written, and has its own again after the next one.
 */
static void system_call(void **state)
{
	uint32_t now, nanosleep_call = SVC_LEN << 16 | SYS_nanosleep;

	stop();
	assert_int_equal(get(NT_S390_SYSTEM_CALL, &now, sizeof(now)), 0);
	assert_int_equal(now, 0);
	assert_int_equal(set(NT_S390_SYSTEM_CALL, &nanosleep_call, sizeof(now)), 0);
	assert_int_equal(get(NT_S390_SYSTEM_CALL, &now, sizeof(now)), 0);
	assert_int_equal(now, nanosleep_call);
	go_on();
	usleep(50000);
	stop();
	assert_int_equal(get(NT_S390_SYSTEM_CALL, &now, sizeof(now)), 0);
	assert_int_not_equal(now, nanosleep_call);
	go_on();
}

/*
 * What a transaction told when it was aborted. Linux looks at bit 0x200 of the last interrupt's
 * code, which is that of an aborted transaction where the interrupt is a program check; that of
 * another CPU that calls, 0x1201 or 0x1202, has it, too. So there may be a block, of zeros, though
 * there has been no transaction, and there may be none.
 */
static void transaction(void **state)
{
	uint8_t block[256], other[256], zeros[256] = {0};
	unsigned shown = 0;

	memset(other, 0xa5, sizeof(other));
	for (int i = 0; i < 2000 && !shown; i++) {
		stop();
		if (get(NT_S390_TDB, block, sizeof(block)) == 0) {
			shown++;
			assert_memory_equal(block, zeros, sizeof(block));
			assert_int_equal(set(NT_S390_TDB, other, sizeof(other)), 0);
			assert_int_equal(get(NT_S390_TDB, block, sizeof(block)), 0);
			assert_memory_equal(block, zeros, sizeof(block));
		}
		go_on();
		usleep(1000);
	}
	assert_int_equal(shown, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(last_break, start, end),
		cmocka_unit_test_setup_teardown(system_call, start, end),
		cmocka_unit_test_setup_teardown(transaction, start, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
