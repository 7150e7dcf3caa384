//! Tiny programs that make one system call and exit with its errno, for testing the call filter
//! without a compiler.

const BASE: u64 = 0x40_0000;

/// A 64-bit x86 program: `exit(-call(arguments))`.
pub(crate) fn x86_64(call: u32, arguments: [u64; 3]) -> Vec<u8> {
    let mut code = Vec::new();
    for (opcode, argument) in [[0x48, 0xbf], [0x48, 0xbe], [0x48, 0xba]].iter().zip(arguments) {
        code.extend(opcode); // mov rdi / rsi / rdx
        code.extend(argument.to_le_bytes());
    }
    code.extend([0x4d, 0x31, 0xd2]); // xor r10, r10
    code.push(0xb8); // mov eax
    code.extend(call.to_le_bytes());
    code.extend([0x0f, 0x05]); // syscall
    code.extend([0xf7, 0xd8, 0x89, 0xc7]); // neg eax; mov edi, eax
    code.extend([0xb8, 60, 0, 0, 0, 0x0f, 0x05]); // exit
    let mut elf = Vec::new();
    elf.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    elf.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    elf.extend((BASE + 120).to_le_bytes()); // entry
    elf.extend(64_u64.to_le_bytes()); // program headers
    elf.extend(0_u64.to_le_bytes());
    elf.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    elf.extend([1, 0, 0, 0, 5, 0, 0, 0]); // PT_LOAD, read and execute
    elf.extend(0_u64.to_le_bytes());
    elf.extend(BASE.to_le_bytes());
    elf.extend(BASE.to_le_bytes());
    let size = 120 + code.len() as u64;
    elf.extend(size.to_le_bytes());
    elf.extend(size.to_le_bytes());
    elf.extend(4096_u64.to_le_bytes());
    elf.extend(code);
    elf
}

/// The same for 32-bit x86.
pub(crate) fn x86(call: u32, arguments: [u32; 3]) -> Vec<u8> {
    x86_with_data(call, arguments, &[])
}

/// A 32-bit x86 program that asks for a socket as old C libraries do: by `socketcall`, whose own
/// arguments are in memory.
pub(crate) fn x86_socketcall(family: u32, kind: u32) -> Vec<u8> {
    const SOCKETCALL: u32 = 102;
    const SOCKET: u32 = 1;
    x86_with_data(SOCKETCALL, [SOCKET, BASE as u32 + X86_DATA, 0], &[family, kind, 0])
}

/// Where the data of a 32-bit program is: behind its headers and its code.
const X86_DATA: u32 = 84 + 33;

fn x86_with_data(call: u32, arguments: [u32; 3], data: &[u32]) -> Vec<u8> {
    let mut code = Vec::new();
    for (opcode, argument) in [0xbb, 0xb9, 0xba].iter().zip(arguments) {
        code.push(*opcode); // mov ebx / ecx / edx
        code.extend(argument.to_le_bytes());
    }
    code.push(0xb8); // mov eax
    code.extend(call.to_le_bytes());
    code.extend([0xcd, 0x80]); // int 0x80
    code.extend([0xf7, 0xd8, 0x89, 0xc3]); // neg eax; mov ebx, eax
    code.extend([0xb8, 1, 0, 0, 0, 0xcd, 0x80]); // exit
    assert_eq!(84 + code.len() as u32, X86_DATA);
    code.extend(data.iter().flat_map(|word| word.to_le_bytes()));
    let base = BASE as u32;
    let mut elf = Vec::new();
    elf.extend(b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0");
    elf.extend([2, 0, 3, 0, 1, 0, 0, 0]);
    for word in [base + 84, 52, 0, 0] {
        elf.extend(word.to_le_bytes()); // entry, program headers, sections, flags
    }
    elf.extend([52, 0, 32, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    let size = 84 + code.len() as u32;
    for word in [1, 0, base, base, size, size, 5, 4096] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(code);
    elf
}
