/* SPDX-License-Identifier: Apache-2.0 */
/* Pieces of shell for tests that put files into an NTFS. */
#ifndef TEST_NTFS_DISK_H
#define TEST_NTFS_DISK_H

#define NTFS_MAKE(file, size, options)                                                             \
    "truncate -s " size " " file "; mkntfs -qF " options " " file " 2>/dev/null; "
/* At "m"; the daemon has written everything once it has ended. */
#define NTFS_MOUNT(file)                                                                           \
    "mkdir -p m; ntfs-3g -o no_detach,compression " file " m & P=$!; trap 'umount m' EXIT; i=0; "  \
    "until mountpoint -q m; do i=$((i + 1)); [ $i -lt 100 ]; sleep 0.1; done; "
#define NTFS_UNMOUNT "umount m; trap - EXIT; wait $P; "

/* The file "windows": what a look reads of a Windows, on an NTFS of that size. The registry is made
 * of the files "software" and "system", which `then` may change, as it may the folder "w"; $K is
 * make-hive.py. */
#define WINDOWS_TREE(size, then)                                                                   \
    "rm -rf w; mkdir -p w/Windows/System32/config w/Windows/System32/drivers w/Boot; "             \
    "for f in bootmgr Boot/BCD Windows/System32/drivers/viostor.sys; do echo x >w/$f; done; "      \
    "cat >software <<'END'\n" WINDOWS_SOFTWARE "END\ncat >system <<'END'\n" WINDOWS_SYSTEM         \
    "END\n" then "; python3 $K w/Windows/System32/config/SOFTWARE li <software; "                  \
    "python3 $K w/Windows/System32/config/SYSTEM <system; " NTFS_MAKE("windows", size, "")         \
        NTFS_MOUNT("windows") "cp -r w/. m; " NTFS_UNMOUNT
#define WINDOWS_VERSION "Microsoft\\Windows NT\\CurrentVersion\t"
#define WINDOWS_SOFTWARE                                                                           \
    "Classes\nPolicies\nMicrosoft\\Windows\nMicrosoft\\Office\n" /* some company */                \
        WINDOWS_VERSION "CurrentVersion\t\"6.3\"\n" WINDOWS_VERSION                                \
    "CurrentMajorVersionNumber\t10\n" WINDOWS_VERSION                                              \
    "CurrentMinorVersionNumber\t0\n" WINDOWS_VERSION                                               \
    "CurrentBuildNumber\t\"19045\"\n" WINDOWS_VERSION                                              \
    "ProductName\t\"Windows 10 Pro\"\n" WINDOWS_VERSION                                            \
    "DisplayVersion\t\"22H2\"\n" WINDOWS_VERSION "InstallationType\t\"Client\"\n"
#define WINDOWS_SERVICES "ControlSet001\\Services\\"
#define WINDOWS_SYSTEM                                                                             \
    "Select\tCurrent\t1\n"                                                                         \
    "ControlSet001\\Control\\Session Manager\\Environment\tPROCESSOR_ARCHITECTURE\t\"AMD64\"\n"    \
    "ControlSet001\\Control\\ComputerName\\ComputerName\tComputerName\t\"WIN-1\"\n"                \
    "ControlSet002\\Control\n" WINDOWS_SERVICES                                                    \
    "Tcpip\\Parameters\tHostname\t\"win-1\"\n" WINDOWS_SERVICES                                    \
    "viostor\tStart\t0\n" WINDOWS_SERVICES                                                         \
    "viostor\tImagePath\t\"\\SystemRoot\\System32\\drivers\\viostor.sys\"\n" WINDOWS_SERVICES      \
    "netkvm\tStart\t3\n" WINDOWS_SERVICES "cloudbase-init\tStart\t2\n" WINDOWS_SERVICES            \
    "QEMU-GA\tStart\t2\n"

#endif
