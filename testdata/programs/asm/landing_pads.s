# Hand-written exception tables: a landing pad before the body, one at the start of the range it counts from,
# LPStart given explicitly (relative to itself), a call without landing pad, an action chain with a cleanup.
#@ flags: -lstdc++
    .text
    .type raise, @function
raise:
    .cfi_startproc
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbx, 0
    movl %edi, %ebx
    testl %edi, %edi
    je .Lquiet
    movl $4, %edi
    call __cxa_allocate_exception@PLT
    movl %ebx, (%rax)
    movq %rax, %rdi
    movq _ZTIi@GOTPCREL(%rip), %rsi
    xorl %edx, %edx
    call __cxa_throw@PLT
.Lquiet:
    movl $7, %eax
    popq %rbx
    .cfi_adjust_cfa_offset -8
    ret
    .cfi_endproc
    .size raise, . - raise

# The landing pad comes first in memory, the entry jumps over it.
    .type pad_first, @function
pad_first:
    .cfi_startproc
    .cfi_personality 0x9b, personality_reference
    .cfi_lsda 0x1b, .Lexception1
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbx, 0
    jmp .Lbody1
.Lpad1:
    movq %rax, %rdi
    call __cxa_begin_catch@PLT
    movl (%rax), %ebx
    call __cxa_end_catch@PLT
    leal 100(%rbx), %eax
    popq %rbx
    .cfi_remember_state
    .cfi_adjust_cfa_offset -8
    ret
.Lbody1:
    .cfi_restore_state
.Lcall1:
    call raise
.Lcall1_end:
    popq %rbx
    .cfi_adjust_cfa_offset -8
    ret
    .cfi_endproc
    .size pad_first, . - pad_first

# A cleanup that resumes, with LPStart in another function.
    .type cleans_up, @function
cleans_up:
    .cfi_startproc
    .cfi_personality 0x9b, personality_reference
    .cfi_lsda 0x1b, .Lexception2
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbx, 0
.Lcall2:
    call raise
.Lcall2_end:
    incl %eax
    popq %rbx
    .cfi_remember_state
    .cfi_adjust_cfa_offset -8
    ret
.Lpad2:
    .cfi_restore_state
    movq %rax, %rbx
    movl $-1000, %edi
    call show
    movq %rbx, %rdi
.Lcall3:
    call _Unwind_Resume@PLT
.Lcall3_end:
    ud2
    .cfi_endproc
    .size cleans_up, . - cleans_up

    .type catches, @function
catches:
    .cfi_startproc
    .cfi_personality 0x9b, personality_reference
    .cfi_lsda 0x1b, .Lexception4
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbx, 0
.Lcall4:
    call cleans_up
.Lcall4_end:
    movl %eax, %ebx
    movl $1, %edi
    call show
.Lout4:
    movl %ebx, %eax
    popq %rbx
    .cfi_remember_state
    .cfi_adjust_cfa_offset -8
    ret
.Lpad4:
    .cfi_restore_state
    cmpl $1, %edx
    jne .Lwrong
    movq %rax, %rdi
    call __cxa_begin_catch@PLT
    movl (%rax), %ebx
    imull $3, %ebx
    call __cxa_end_catch@PLT
    jmp .Lout4
.Lwrong:
    call abort@PLT
    .cfi_endproc
    .size catches, . - catches

    .globl main
    .type main, @function
main:
    .cfi_startproc
    pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbx, 0
    xorl %ebx, %ebx
.Lmain:
    movl %ebx, %edi
    call pad_first
    movl %eax, %edi
    call show
    movl %ebx, %edi
    call catches
    movl %eax, %edi
    call show
    incl %ebx
    cmpl $4, %ebx
    jne .Lmain
    xorl %eax, %eax
    popq %rbx
    .cfi_adjust_cfa_offset -8
    ret
    .cfi_endproc
    .size main, . - main
    .globl program_main
    .set program_main, main

    .type show, @function
show:
    .cfi_startproc
    subq $8, %rsp
    .cfi_adjust_cfa_offset 8
    movl %edi, %esi
    leaq decimal(%rip), %rdi
    xorl %eax, %eax
    call printf@PLT
    addq $8, %rsp
    .cfi_adjust_cfa_offset -8
    ret
    .cfi_endproc
    .size show, . - show

    .section .gcc_except_table,"a",@progbits
    .balign 4
.Lexception1:
    .byte 0xff
    .byte 0x9b
    .uleb128 .Ltypes1 - .Ltypes1_offset
.Ltypes1_offset:
    .byte 0x01
    .uleb128 .Lsites1_end - .Lsites1
.Lsites1:
    .uleb128 .Lcall1 - pad_first
    .uleb128 .Lcall1_end - .Lcall1
    .uleb128 .Lpad1 - pad_first
    .uleb128 1
.Lsites1_end:
    .byte 1, 0
    .balign 4
    .long type_reference - .
.Ltypes1:

    .balign 4
.Lexception2:
    .byte 0x1b
    .long raise - .
    .byte 0xff
    .byte 0x01
    .uleb128 .Lsites2_end - .Lsites2
.Lsites2:
    .uleb128 .Lcall2 - cleans_up
    .uleb128 .Lcall2_end - .Lcall2
    .uleb128 .Lpad2 - raise
    .uleb128 0
    .uleb128 .Lcall3 - cleans_up
    .uleb128 .Lcall3_end - .Lcall3
    .uleb128 0
    .uleb128 0
.Lsites2_end:

    .balign 4
.Lexception4:
    .byte 0x1b
    .long .Lpad4 - . - 1
    .byte 0x9b
    .uleb128 .Ltypes4 - .Ltypes4_offset
.Ltypes4_offset:
    .byte 0x03
    .uleb128 .Lsites4_end - .Lsites4
.Lsites4:
    .long .Lcall4 - catches, .Lcall4_end - .Lcall4, 1
    .uleb128 3
.Lsites4_end:
    .byte 1, 0
    .byte 0, 0x7d
    .balign 4
    .long type_reference - .
.Ltypes4:

    .section .data.rel.local,"aw",@progbits
    .balign 8
personality_reference:
    .quad __gxx_personality_v0
type_reference:
    .quad _ZTIi
    .section .rodata.str1.1,"aMS",@progbits,1
decimal:
    .string "%d\n"
    .section .note.GNU-stack,"",@progbits
