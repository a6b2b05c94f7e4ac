//! The sandbox of a worker process (`sandbox`).
//!
//! Owns the list of system calls that no worker needs, the seccomp(2) filter made of it, and the dropping of
//! capabilities. A refused call fails as it does without the permission for it; nothing is killed.
//! Must never refuse what an accepted configuration may need: files of any path, sockets, threads, and programs that
//! scripts start unless `sandbox strict` forbids them. Must be called before the process has a thread.

use crate::log::{Level, reason};
use crate::process_log::ProcessLog;
use crate::requirements::Sandbox;
use libc::{c_long, sock_filter, sock_fprog};
use nix::errno::Errno;
use std::io;

/// Calls that change the machine, look into other processes, or reach rarely used parts of the kernel in which most
/// vulnerabilities were found. No proxy makes any of them.
const REFUSED: &[c_long] = &[
    // Mounts and the root directory.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_mount_setattr,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_fanotify_init,
    libc::SYS_open_by_handle_at,
    // Namespaces.
    libc::SYS_unshare,
    libc::SYS_setns,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    libc::SYS_kcmp,
    // The kernel itself.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    // Keys, page faults in user space, rings of calls that no filter sees.
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_personality,
];

/// Calls of this architecture alone.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[c_long] = &[libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_modify_ldt, libc::SYS_uselib];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[c_long] = &[];

/// Calls that turn the process into another program.
const PROGRAMS: &[c_long] = &[libc::SYS_execve, libc::SYS_execveat];

/// The allowed address families; the C library reads the addresses of the machine through netlink.
const FAMILIES: &[i32] = &[libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// The flags of `clone` that create a namespace.
const NAMESPACES: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

/// The number of this architecture in a filter (linux/audit.h). `None`: there is no filter, because the list was never
/// checked for it.
#[cfg(target_arch = "x86_64")]
const ARCH: Option<u32> = Some(0xC000_003E);
#[cfg(target_arch = "aarch64")]
const ARCH: Option<u32> = Some(0xC000_00B7);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const ARCH: Option<u32> = None;

/// From here on x86-64 numbers the same calls again, for programs with short pointers (x32).
const SECOND_COUNT: u32 = 0x4000_0000;

/// The highest number of a capability that the kernel's sets have room for.
const MAX_CAPABILITY: libc::c_ulong = 63;

/// Offsets in struct seccomp_data; of an argument, that of its low half.
const AT_NUMBER: u32 = 0;
const AT_ARCH: u32 = 4;
const AT_FIRST_ARGUMENT: u32 = if cfg!(target_endian = "little") { 16 } else { 20 };

/// Drops capabilities and installs the filter. A kernel without filters is only logged: no server stops for want of a
/// sandbox.
pub(crate) fn enter(sandbox: Sandbox, log: &ProcessLog) {
    if sandbox == Sandbox::Off {
        return;
    }
    // A worker that the configuration runs as root is meant to have root's capabilities.
    if !nix::unistd::geteuid().is_root()
        && let Err(error) = drop_capabilities()
    {
        log.failed(Level::Notice, "capset(), capabilities are kept:", &error);
    }
    if let Err(error) = nix::sys::prctl::set_no_new_privs() {
        log.failed(Level::Notice, "prctl(PR_SET_NO_NEW_PRIVS), no sandbox:", &error.into());
        return;
    }
    let Some(arch) = ARCH else {
        log.write(Level::Notice, format_args!("no sandbox: there is none for this architecture"));
        return;
    };
    if let Err(error) = install(&filter(arch, sandbox)) {
        log.write(
            Level::Notice,
            format_args!("no sandbox: the kernel accepts no seccomp filter {}", reason(&error)),
        );
    }
}

/// Builds the filter.
fn filter(arch: u32, sandbox: Sandbox) -> Vec<sock_filter> {
    let mut code = vec![load(AT_ARCH), unless_equal(arch, 1), skip(1), refuse(libc::EPERM), load(AT_NUMBER)];
    if cfg!(target_arch = "x86_64") {
        code.extend([step(libc::BPF_JMP | libc::BPF_JGE, SECOND_COUNT, 0, 1), refuse(libc::EPERM)]);
    }
    let programs = if sandbox == Sandbox::NoPrograms { PROGRAMS } else { &[] };
    for number in REFUSED.iter().chain(REFUSED_HERE).chain(programs) {
        code.extend([unless_equal(*number as u32, 1), refuse(libc::EPERM)]);
    }
    // The flags of clone3 are in memory that a filter cannot read. On this error the C library assumes an old kernel and
    // calls clone, whose flags are an argument.
    code.extend([unless_equal(libc::SYS_clone3 as u32, 1), refuse(libc::ENOSYS)]);
    code.extend([
        unless_equal(libc::SYS_clone as u32, 3),
        load(AT_FIRST_ARGUMENT),
        step(libc::BPF_JMP | libc::BPF_JSET, NAMESPACES as u32, 0, 1),
        refuse(libc::EPERM),
        // Back from the argument to the number of the call.
        load(AT_NUMBER),
    ]);
    let families = FAMILIES.len() as u8;
    code.push(unless_equal(libc::SYS_socket as u32, 2 + families));
    code.push(load(AT_FIRST_ARGUMENT));
    for (done, family) in FAMILIES.iter().enumerate() {
        let to_end = families - done as u8;
        code.push(step(libc::BPF_JMP | libc::BPF_JEQ, *family as u32, to_end, 0));
    }
    code.push(refuse(libc::EAFNOSUPPORT));
    code.push(ret(libc::SECCOMP_RET_ALLOW));
    code
}

fn step(code: u32, operand: u32, then: u8, otherwise: u8) -> sock_filter {
    sock_filter { code: code as u16, jt: then, jf: otherwise, k: operand }
}

fn load(at: u32) -> sock_filter {
    step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at, 0, 0)
}

/// Continues if the value equals this one; else skips so many steps.
fn unless_equal(value: u32, skipped: u8) -> sock_filter {
    step(libc::BPF_JMP | libc::BPF_JEQ, value, 0, skipped)
}

fn skip(count: u32) -> sock_filter {
    step(libc::BPF_JMP, count, 0, 0)
}

fn ret(value: u32) -> sock_filter {
    step(libc::BPF_RET, value, 0, 0)
}

fn refuse(error: i32) -> sock_filter {
    ret(libc::SECCOMP_RET_ERRNO | error as u32)
}

/// Installs the filter for this thread and all that it starts.
fn install(code: &[sock_filter]) -> io::Result<()> {
    // The kernel reads the filter only.
    let program = sock_fprog { len: code.len() as u16, filter: code.as_ptr().cast_mut() };
    // Without this flag older kernels slow the whole process down against Spectre v4, as if the filter meant that
    // untrusted machine code runs here. Kernels before 4.17 do not know it.
    for flags in [libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW, 0] {
        // SAFETY: `program` points to `code`, which lives until the call is over; the kernel copies and checks it.
        #[allow(unsafe_code)]
        let result = unsafe {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
        };
        match Errno::result(result) {
            Ok(_) => return Ok(()),
            Err(Errno::EINVAL) if flags != 0 => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Takes every capability out of the bounding set, so that no program that a worker starts can gain one. Needs
/// CAP_SETPCAP, so that it must be called before the change of user.
pub(crate) fn drop_bounding_set(sandbox: Sandbox, log: &ProcessLog) {
    if sandbox == Sandbox::Off {
        return;
    }
    for capability in 0..=MAX_CAPABILITY {
        // SAFETY: prctl with this operation takes a number and touches no memory.
        #[allow(unsafe_code)]
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        match Errno::result(result) {
            Ok(_) => {}
            // The kernel knows no more of them.
            Err(Errno::EINVAL) => return,
            Err(error) => {
                log.failed(Level::Notice, "prctl(PR_CAPBSET_DROP), the bounding set is kept:", &error.into());
                return;
            }
        }
    }
}

/// Drops every capability that a service file has granted to a worker that is not root.
fn drop_capabilities() -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    // Effective, permitted and inheritable, in two words each (capset(2), version 3).
    let none = [0u32; 6];
    let header = Header { version: 0x2008_0522, pid: 0 };
    // SAFETY: both structures have the layout that this version of the call asks for, and live until it is over.
    #[allow(unsafe_code)]
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) };
    Errno::result(result)?;
    // Ambient ones go with the inheritable ones (capabilities(7)).
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Interprets the filter for a call, by the rules of the kernel.
    fn ask(code: &[sock_filter], arch: u32, number: u32, argument: u64) -> u32 {
        let mut data = Vec::new();
        data.extend(number.to_ne_bytes());
        data.extend(arch.to_ne_bytes());
        data.extend(0u64.to_ne_bytes());
        data.extend(argument.to_ne_bytes());
        let (mut at, mut value) = (0, 0);
        loop {
            let sock_filter { code: what, jt, jf, k } = code[at];
            at += 1;
            let jump = |is: bool| usize::from(if is { jt } else { jf });
            match u32::from(what) {
                0x20 => value = u32::from_ne_bytes(data[k as usize..][..4].try_into().unwrap()),
                0x05 => at += k as usize,
                0x15 => at += jump(value == k),
                0x35 => at += jump(value >= k),
                0x45 => at += jump(value & k != 0),
                0x06 => return k,
                other => panic!("the filter has a step {other:#x}"),
            }
        }
    }

    const ALLOWED: u32 = 0x7FFF_0000;

    fn refused(error: i32) -> u32 {
        0x0005_0000 | error as u32
    }

    #[test]
    fn needed_calls_pass_and_the_others_are_refused() {
        let Some(arch) = ARCH else { return };
        let code = filter(arch, Sandbox::On);
        let needed = [
            libc::SYS_read,
            libc::SYS_openat,
            libc::SYS_sendfile,
            libc::SYS_accept4,
            libc::SYS_epoll_pwait,
            libc::SYS_mprotect,
            libc::SYS_futex,
            libc::SYS_exit_group,
            libc::SYS_execve,
            libc::SYS_kill,
            libc::SYS_madvise,
        ];
        for number in needed {
            assert_eq!(ask(&code, arch, number as u32, 0), ALLOWED, "{number}");
        }
        for number in REFUSED.iter().chain(REFUSED_HERE) {
            assert_eq!(ask(&code, arch, *number as u32, 0), refused(libc::EPERM), "{number}");
        }
        let strict = filter(arch, Sandbox::NoPrograms);
        assert_eq!(ask(&strict, arch, libc::SYS_execve as u32, 0), refused(libc::EPERM));
        assert_eq!(ask(&strict, arch, libc::SYS_read as u32, 0), ALLOWED);
    }

    #[test]
    fn arguments_decide_for_clone_and_socket() {
        let Some(arch) = ARCH else { return };
        let code = filter(arch, Sandbox::On);
        let ask = |number: c_long, argument: i32| ask(&code, arch, number as u32, argument as u64);
        assert_eq!(ask(libc::SYS_clone, libc::CLONE_VM | libc::CLONE_THREAD), ALLOWED);
        assert_eq!(ask(libc::SYS_clone, libc::CLONE_NEWUSER), refused(libc::EPERM));
        assert_eq!(ask(libc::SYS_clone3, 0), refused(libc::ENOSYS));
        for family in [libc::AF_INET, libc::AF_INET6, libc::AF_UNIX, libc::AF_NETLINK] {
            assert_eq!(ask(libc::SYS_socket, family), ALLOWED, "{family}");
        }
        for family in [libc::AF_PACKET, libc::AF_ALG, libc::AF_VSOCK, libc::AF_CAN] {
            assert_eq!(ask(libc::SYS_socket, family), refused(libc::EAFNOSUPPORT), "{family}");
        }
    }

    #[test]
    fn calls_by_the_numbers_of_other_architectures_are_refused() {
        let Some(arch) = ARCH else { return };
        let code = filter(arch, Sandbox::On);
        // 32-bit x86.
        assert_eq!(ask(&code, 0x4000_0003, libc::SYS_read as u32, 0), refused(libc::EPERM));
        if cfg!(target_arch = "x86_64") {
            let second = SECOND_COUNT | libc::SYS_mount as u32;
            assert_eq!(ask(&code, arch, second, 0), refused(libc::EPERM));
        }
    }
}
