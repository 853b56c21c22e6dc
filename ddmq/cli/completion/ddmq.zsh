#compdef ddmq
# Completion of ddmq, made by packaging/completion.py.

_shtab_ddmq_commands() {
  local _commands=(
    ack:'Finish consumed messages.'
    cancel:'Make dead letters of messages that nobody is to run, or to run on.'
    check:'See whether a file system keeps what ddmq needs; exit status 1 when it does not.'
    clean:'Do all the housekeeping of a queue now.'
    config:'Show the settings of a queue or of the root, or change them.'
    consume:'Lease the first message and print it; exit status 3 when there is none.'
    create:'Make a queue.'
    dead:'List dead letters, with the reasons, or show one whole.'
    delete:'Remove a queue with all its messages.'
    doctor:'See what is wrong with queues; exit status 1 when something is.'
    drain:'Let workers finish what they hold, take no more, and end.'
    export:'Write all that waits, is delayed or dead as lines of JSON.'
    forget:'Let the key of a `publish --key` be used once more.'
    help:'show this, or the help of a command'
    import:'Publish what was exported, here or elsewhere; if it was before, it comes twice.'
    json:'Run a command given as JSON; answer in JSON, errors too.'
    log:'List the runs of commands that workers kept in their journals.'
    migrate:'Take over the queues that ddmq 0.9 made; run it again if it was interrupted.'
    move:'Move messages that wait or are delayed to another queue.'
    nack:'Say that consumed messages failed: they are tried again, or dead.'
    pause:'Let workers finish what they hold, and take no more from a queue.'
    peek:'Show the messages that would be consumed next, and take none.'
    publish:'Put a message, or one for each line of a file, into a queue.'
    purge:'Remove the messages of a queue, or those in some states.'
    redrive:'Put dead letters back in line, their counts at zero.'
    reject:'Make consumed messages dead letters at once.'
    release:'Give consumed messages back unharmed; it does not count.'
    renew:'Prolong the leases of consumed messages.'
    report:'Make a page that tells what a run was, from the journals.'
    results:'List which result belongs to which message, by the journals; or write their contents.'
    resume:'Let workers take messages of a paused queue again.'
    show:'Show one message whole: waiting, at work, delayed or dead.'
    status:'Tell where messages are, or what became of them, in a word each.'
    submit:'submit batch jobs that do so, as `ddmq-submit` does'
    view:'Show how many messages wait, are at work, delayed or dead.'
    wait:'Wait until nothing waits, is at work or delayed.'
    worker:'run a command for each message, as `ddmq-worker` does'
    workers:'Show who works on a queue: slots, messages, rate, last sign of life.'
  )
  _describe 'ddmq commands' _commands
}

_shtab_ddmq_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  {-v,--version}"[show the version]"
  "--completion[print what completes words in a shell]:completion:(bash zsh fish)"
)

# guard to ensure default positional specs are added only once per session
_shtab_ddmq_defaults_added=0

_shtab_ddmq_ack_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  "--format[how to print\; plain by default]:format:(plain json yaml)"
  {-v,--verbose}"[say more]"
  {-d,--debug}"[say everything, and count the system calls]"
  {-s,--silent}"[say errors only]"
  ":the directory of the queues, on storage all clients share:_files -/"
  ":the name of the queue:"
  ":ids or file names, with commas:"
)

# guard to ensure default positional specs are added only once per session
_shtab_ddmq_ack_defaults_added=0

_shtab_ddmq_cancel_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  "--key[in place of an id\: the message published with this key]:KEY:"
  "--text[in place of an id\: the message with this text, or with this in its text]:TEXT:"
  "--format[how to print\; plain by default]:format:(plain json yaml)"
  {-v,--verbose}"[say more]"
  {-d,--debug}"[say everything, and count the system calls]"
  {-s,--silent}"[say errors only]"
  ":the directory of the queues, on storage all clients share:_files -/"
  ":the name of the queue:"
  ":ids, or the beginning of an id that no other message has:"
)

# guard to ensure default positional specs are added only once per session
_shtab_ddmq_cancel_defaults_added=0

_shtab_ddmq_check_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  "--clients[wait for others that run the same command\; srun and mpirun tell by themselves]:N:"
  {-t,--timeout}"[seconds that another client may take\; 60 by default]:timeout:"
  "--format[how to print\; plain by default]:format:(plain json yaml)"
  {-v,--verbose}"[say more]"
  {-d,--debug}"[say everything, and count the system calls]"
  {-s,--silent}"[say errors only]"
  ":a directory in which we may write:_files -/"
  ":the same one, by another mount:_files -/"
)

# guard to ensure default positional specs are added only once per session
_shtab_ddmq_check_defaults_added=0

_shtab_ddmq_clean_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  "--end-leases[let all that is at work come back now, for when its consumers are dead\; what lives is run twice]"
  {-f,--force}"[also where workers live, or seem to]"
  "--format[how to print\; plain by default]:format:(plain json yaml)"
  {-v,--verbose}"[say more]"
  {-d,--debug}"[say everything, and count the system calls]"
  {-s,--silent}"[say errors only]"
  ":the directory of the queues, on storage all clients share:_files -/"
  ":queues, with commas\; all by default:"
)

# guard to ensure default positional specs are added only once per session
_shtab_ddmq_clean_defaults_added=0

_shtab_ddmq_config_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  "--set[change a setting]:KEY=VALUE:"
  "--unset[give a setting its default back]:KEY:"
  "--lock-timeout[seconds to wait for the lock\; the setting lock_timeout by default]:S:"
  "--format[how to print\; plain by default]:format:(plain json yaml)"
  {-v,--verbose}"[say more]"
  {-d,--debug}"[say everything, and count the system calls]"
  {-s,--silent}"[say errors only]"
  ":the directory of the queues, on storage all clients share:_files -/"
  ":the queue\; none\: the root:"
)

# guard to ensure default positional specs are added only once per session
_shtab_ddmq_config_defaults_added=0

_shtab_ddmq_consume_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  {-n,--number}"[up to so many at once]:number:"
  {-C,--skip-cleaning}"[leave the housekeeping to others]"
  "--format[how to print\; json by default]:format:(plain json yaml)"
  {-v,--verbose}"[say more]"
  {-d,--debug}"[say everything, and count the system calls]"
  {-s,--silent}"[say errors only]"
  ":the directory of the queues, on storage all clients share:_files -/"
  ":the name of the queue:"
)

# guard to ensure default positional specs are added only once per session
_shtab_ddmq_consume_defaults_added=0

_shtab_ddmq_create_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  {-f,--force}"[create and initiate what is missing]"
  "--mode[mode of its directories, and so of its files\: 2770 shares it with the group]:mode:"
  "--lock-timeout[seconds to wait for the lock\; the setting lock_timeout by default]:S:"
  "--format[how to print\; plain by default]:format:(plain json yaml)"
  {-v,--verbose}"[say more]"
  {-d,--debug}"[say everything, and count the system calls]"
  {-s,--silent}"[say errors only]"
  ":the directory of the queues, on storage all clients share:_files -/"
  ":queues, with commas\; none\: the root alone:"
)

# guard to ensure default positional specs are added only once per session
_shtab_ddmq_create_defaults_added=0

_shtab_ddmq_dead_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  "--key[in place of an id\: the message published with this key]:KEY:"
  "--text[in place of an id\: the message with this text, or with this in its text]:TEXT:"
  {-k,--kinds}"[what they died of, in few lines, and what redrives each kind]"
  "--format[how to print\; plain by default]:format:(plain json yaml)"
  {-v,--verbose}"[say more]"
  {-d,--debug}"[say everything, and count the system calls]"
  {-s,--silent}"[say errors only]"
  ":the directory of the queues, on storage all clients share:_files -/"
  ":the name of the queue:"
  ":ids, or the beginning of an id that no other message has:"
)

# guard to ensure default positional specs are added only once per session
_shtab_ddmq_dead_defaults_added=0

_shtab_ddmq_delete_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  "--lock-timeout[seconds to wait for the lock\; the setting lock_timeout by default]:S:"
  "--format[how to print\; plain by default]:format:(plain json yaml)"
  {-v,--verbose}"[say more]"
  {-d,--debug}"[say everything, and count the system calls]"
  {-s,--silent}"[say errors only]"
  ":the directory of the queues, on storage all clients share:_files -/"
  ":one queue, or several with commas:"
)

# guard to ensure default positional specs are added only once per session
_shtab_ddmq_delete_defaults_added=0

_shtab_ddmq_doctor_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  "--fix[mend it, as the housekeeping would\; no message is destroyed]"
  "--purged-after[the age, such as 30d, at which this file system removes files\: tell what is near it]:AGE:"
  "--format[how to print\; plain by default]:format:(plain json yaml)"
  {-v,--verbose}"[say more]"
  {-d,--debug}"[say everything, and count the system calls]"
  {-s,--silent}"[say errors only]"
  ":the directory of the queues\; without it, what a bug report needs is told:_files -/"
  ":queues, with commas\; all by default:"
)

# guard to ensure default positional specs are added only once per session
_shtab_ddmq_doctor_defaults_added=0

_shtab_ddmq_drain_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  "--all[all workers of the queue]"
  "--host[those on this host]:host:"
  "--job[those of this batch job, or of this array]:job:"
  "--format[how to print\; plain by default]:format:(plain json yaml)"
  {-v,--verbose}"[say more]"
  {-d,--debug}"[say everything, and count the system calls]"
  {-s,--silent}"[say errors only]"
  ":the directory of the queues, on storage all clients share:_files -/"
  ":one queue, or several with commas:"
)

# guard to ensure default positional specs are added only once per session
_shtab_ddmq_drain_defaults_added=0

_shtab_ddmq_export_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  {-o,--output}"[this file, which is there whole or not at all\; standard output by default]:FILE:_files"
  "--work[what is at work, too]"
  "--no-dead[no dead letters]"
  {-v,--verbose}"[say more]"
  {-d,--debug}"[say everything, and count the system calls]"
  {-s,--silent}"[say errors only]"
  ":the directory of the queues, on storage all clients share:_files -/"
  ":the name of the queue:"
)

# guard to ensure default positional specs are added only once per session
_shtab_ddmq_export_defaults_added=0

_shtab_ddmq_forget_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  "--format[how to print\; plain by default]:format:(plain json yaml)"
  {-v,--verbose}"[say more]"
  {-d,--debug}"[say everything, and count the system calls]"
  {-s,--silent}"[say errors only]"
  ":the directory of the queues, on storage all clients share:_files -/"
  ":the name of the queue:"
  ":what \`ddmq publish --key\` was given:"
)

# guard to ensure default positional specs are added only once per session
_shtab_ddmq_forget_defaults_added=0

_shtab_ddmq_help_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  ":COMMAND:(view workers peek show status create delete publish forget consume ack nack release reject renew move cancel pause resume drain purge clean export import migrate dead log results report redrive wait config check doctor json worker submit help)"
)

# guard to ensure default positional specs are added only once per session
_shtab_ddmq_help_defaults_added=0

_shtab_ddmq_import_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  {-f,--force}"[create and initiate what is missing]"
  "--no-dead[leave dead letters out]"
  "--format[how to print\; plain by default]:format:(plain json yaml)"
  {-v,--verbose}"[say more]"
  {-d,--debug}"[say everything, and count the system calls]"
  {-s,--silent}"[say errors only]"
  ":the directory of the queues, on storage all clients share:_files -/"
  ":the name of the queue:"
  ":what \`ddmq export\` wrote\; - is standard input:_files"
)

# guard to ensure default positional specs are added only once per session
_shtab_ddmq_import_defaults_added=0

_shtab_ddmq_json_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  {-v,--verbose}"[say more]"
  {-d,--debug}"[say everything, and count the system calls]"
  {-s,--silent}"[say errors only]"
  ":standard input by default:"
)

# guard to ensure default positional specs are added only once per session
_shtab_ddmq_json_defaults_added=0

_shtab_ddmq_log_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  "--failed[only those that did not succeed]"
  "--host[only those on this host]:host:"
  "--text[only those of messages that have TEXT in them, with the paths of their logs]:TEXT:"
  "--slowest[the slowest N, slowest first]:N:"
  "--compact[merge the journals of workers that ended a week ago]"
  "--format[how to print\; plain by default]:format:(plain json yaml csv)"
  {-v,--verbose}"[say more]"
  {-d,--debug}"[say everything, and count the system calls]"
  {-s,--silent}"[say errors only]"
  ":the directory of the queues, on storage all clients share:_files -/"
  ":the name of the queue:"
)

# guard to ensure default positional specs are added only once per session
_shtab_ddmq_log_defaults_added=0

_shtab_ddmq_migrate_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  {-f,--force}"[create and initiate what is missing]"
  "--copy[leave the old files as they are\; publish copies]"
  "--work[also what an old consumer still holds\: it may be done twice]"
  "--format[how to print\; plain by default]:format:(plain json yaml)"
  {-v,--verbose}"[say more]"
  {-d,--debug}"[say everything, and count the system calls]"
  {-s,--silent}"[say errors only]"
  ":the directory of the queues of ddmq 0.9:_files -/"
  ":the directory of the queues of this ddmq\; another one:_files -/"
  ":queues, with commas\; all by default:"
)

# guard to ensure default positional specs are added only once per session
_shtab_ddmq_migrate_defaults_added=0

_shtab_ddmq_move_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  "--format[how to print\; plain by default]:format:(plain json yaml)"
  {-v,--verbose}"[say more]"
  {-d,--debug}"[say everything, and count the system calls]"
  {-s,--silent}"[say errors only]"
  ":the directory of the queues, on storage all clients share:_files -/"
  ":the name of the queue:"
  ":of messages that wait or are delayed:"
  ":the name of the other queue, in the same root:"
)

# guard to ensure default positional specs are added only once per session
_shtab_ddmq_move_defaults_added=0

_shtab_ddmq_nack_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  "--delay[seconds until it is visible]:delay:"
  "--reason[why, for its dead letter]:reason:"
  "--format[how to print\; plain by default]:format:(plain json yaml)"
  {-v,--verbose}"[say more]"
  {-d,--debug}"[say everything, and count the system calls]"
  {-s,--silent}"[say errors only]"
  ":the directory of the queues, on storage all clients share:_files -/"
  ":the name of the queue:"
  ":ids or file names, with commas:"
)

# guard to ensure default positional specs are added only once per session
_shtab_ddmq_nack_defaults_added=0

_shtab_ddmq_pause_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  "--format[how to print\; plain by default]:format:(plain json yaml)"
  {-v,--verbose}"[say more]"
  {-d,--debug}"[say everything, and count the system calls]"
  {-s,--silent}"[say errors only]"
  ":the directory of the queues, on storage all clients share:_files -/"
  ":one queue, or several with commas:"
)

# guard to ensure default positional specs are added only once per session
_shtab_ddmq_pause_defaults_added=0

_shtab_ddmq_peek_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  {-n,--number}"[so many at most\; 10 by default]:number:"
  "--format[how to print\; plain by default]:format:(plain json yaml)"
  {-v,--verbose}"[say more]"
  {-d,--debug}"[say everything, and count the system calls]"
  {-s,--silent}"[say errors only]"
  ":the directory of the queues, on storage all clients share:_files -/"
  ":the name of the queue:"
)

# guard to ensure default positional specs are added only once per session
_shtab_ddmq_peek_defaults_added=0

_shtab_ddmq_publish_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  {-f,--force}"[create and initiate what is missing]"
  "--from-file[one message for each line that is not empty\; - is standard input]:FILE:_files"
  "--json[the message, or each line, is a JSON value]"
  "--null[messages in the file end with a NUL, as those of \`find -print0\`]"
  "--skip-invalid[leave out lines that are no UTF-8, or no JSON with --json, and tell their numbers]"
  {-p,--priority}"[0 is first\; 999 by default]:priority:"
  {-t,--timeout}"[seconds until it is requeued unacked]:timeout:"
  {-r,--requeue}"[try it again when it fails]"
  "--no-requeue[a dead letter when it fails]"
  {-l,--requeue-limit}"[how often to try it again\; null\: no limit]:requeue_limit:"
  "--requeue-prio[priority when tried again]:requeue_prio:"
  "--delay[seconds until it is visible]:delay:"
  "--durable[wait until it is on stable storage]"
  "--no-durable[leave that to the system\: faster]"
  "--key[add nothing if anything was published with this key, and print the same]:key:"
  {-C,--skip-cleaning}"[leave the housekeeping to others]"
  "--format[how to print\; plain by default]:format:(plain json yaml)"
  {-v,--verbose}"[say more]"
  {-d,--debug}"[say everything, and count the system calls]"
  {-s,--silent}"[say errors only]"
  ":the directory of the queues, on storage all clients share:_files -/"
  ":the name of the queue:"
  ":the text\; - reads it from standard input:"
)

# guard to ensure default positional specs are added only once per session
_shtab_ddmq_publish_defaults_added=0

_shtab_ddmq_purge_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  "--only[of waiting, work, delayed and dead only these]:STATE[,STATE...]:"
  "--lock-timeout[seconds to wait for the lock\; the setting lock_timeout by default]:S:"
  "--format[how to print\; plain by default]:format:(plain json yaml)"
  {-v,--verbose}"[say more]"
  {-d,--debug}"[say everything, and count the system calls]"
  {-s,--silent}"[say errors only]"
  ":the directory of the queues, on storage all clients share:_files -/"
  ":one queue, or several with commas:"
)

# guard to ensure default positional specs are added only once per session
_shtab_ddmq_purge_defaults_added=0

_shtab_ddmq_redrive_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  "--key[in place of an id\: the message published with this key]:KEY:"
  "--text[in place of an id\: the message with this text, or with this in its text]:TEXT:"
  "--reason[only those whose reason holds this text]:TEXT:"
  "--code[only those whose command ended so\: 1,64-70\; 128 \+ n stands for signal n]:CODES:"
  "--format[how to print\; plain by default]:format:(plain json yaml)"
  {-v,--verbose}"[say more]"
  {-d,--debug}"[say everything, and count the system calls]"
  {-s,--silent}"[say errors only]"
  ":the directory of the queues, on storage all clients share:_files -/"
  ":the name of the queue:"
  ":ids, or the beginning of an id that no other message has:"
)

# guard to ensure default positional specs are added only once per session
_shtab_ddmq_redrive_defaults_added=0

_shtab_ddmq_reject_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  "--reason[why, for its dead letter]:reason:"
  "--format[how to print\; plain by default]:format:(plain json yaml)"
  {-v,--verbose}"[say more]"
  {-d,--debug}"[say everything, and count the system calls]"
  {-s,--silent}"[say errors only]"
  ":the directory of the queues, on storage all clients share:_files -/"
  ":the name of the queue:"
  ":ids or file names, with commas:"
)

# guard to ensure default positional specs are added only once per session
_shtab_ddmq_reject_defaults_added=0

_shtab_ddmq_release_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  "--format[how to print\; plain by default]:format:(plain json yaml)"
  {-v,--verbose}"[say more]"
  {-d,--debug}"[say everything, and count the system calls]"
  {-s,--silent}"[say errors only]"
  ":the directory of the queues, on storage all clients share:_files -/"
  ":the name of the queue:"
  ":ids or file names, with commas:"
)

# guard to ensure default positional specs are added only once per session
_shtab_ddmq_release_defaults_added=0

_shtab_ddmq_renew_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  {-t,--timeout}"[seconds from now]:timeout:"
  "--format[how to print\; plain by default]:format:(plain json yaml)"
  {-v,--verbose}"[say more]"
  {-d,--debug}"[say everything, and count the system calls]"
  {-s,--silent}"[say errors only]"
  ":the directory of the queues, on storage all clients share:_files -/"
  ":the name of the queue:"
  ":ids or file names, with commas:"
)

# guard to ensure default positional specs are added only once per session
_shtab_ddmq_renew_defaults_added=0

_shtab_ddmq_report_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  {-o,--output}"[the page, which is there whole or not at all\; - is standard output, the default]:FILE:_files"
  "--since[only what began since\: 2030-01-31, 2030-01-31T12\:00, or 2h\: so long ago]:TIME:"
  "--format[how to print\; plain by default]:format:(plain json yaml csv)"
  {-v,--verbose}"[say more]"
  {-d,--debug}"[say everything, and count the system calls]"
  {-s,--silent}"[say errors only]"
  ":the directory of the queues, on storage all clients share:_files -/"
  ":one queue, or several with commas:"
)

# guard to ensure default positional specs are added only once per session
_shtab_ddmq_report_defaults_added=0

_shtab_ddmq_results_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  "--cat[write the contents of all results to standard output, in the order of publishing]"
  "--concat[the same to this file, which is there whole or not at all\; -\: as --cat]:FILE:"
  "--format[how to print\; plain by default]:format:(plain json yaml csv)"
  {-v,--verbose}"[say more]"
  {-d,--debug}"[say everything, and count the system calls]"
  {-s,--silent}"[say errors only]"
  ":the directory of the queues, on storage all clients share:_files -/"
  ":the name of the queue:"
  ":the --output-dir of the workers\; by default, all those that your workers noted in the journals:_files -/"
)

# guard to ensure default positional specs are added only once per session
_shtab_ddmq_results_defaults_added=0

_shtab_ddmq_resume_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  "--format[how to print\; plain by default]:format:(plain json yaml)"
  {-v,--verbose}"[say more]"
  {-d,--debug}"[say everything, and count the system calls]"
  {-s,--silent}"[say errors only]"
  ":the directory of the queues, on storage all clients share:_files -/"
  ":one queue, or several with commas:"
)

# guard to ensure default positional specs are added only once per session
_shtab_ddmq_resume_defaults_added=0

_shtab_ddmq_show_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  "--key[in place of an id\: the message published with this key]:KEY:"
  "--text[in place of an id\: the message with this text, or with this in its text]:TEXT:"
  "--format[how to print\; plain by default]:format:(plain json yaml)"
  {-v,--verbose}"[say more]"
  {-d,--debug}"[say everything, and count the system calls]"
  {-s,--silent}"[say errors only]"
  ":the directory of the queues, on storage all clients share:_files -/"
  ":the name of the queue:"
  ":ids, or the beginning of an id that no other message has:"
)

# guard to ensure default positional specs are added only once per session
_shtab_ddmq_show_defaults_added=0

_shtab_ddmq_status_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  "--key[in place of an id\: the message published with this key]:KEY:"
  "--text[in place of an id\: the message with this text, or with this in its text]:TEXT:"
  "--history[with each try\: when, how it ended, where, and its logs]"
  "--snakemake[of one message\: running, success or failed, with exit status 0]"
  "--format[how to print\; plain by default]:format:(plain json yaml csv)"
  {-v,--verbose}"[say more]"
  {-d,--debug}"[say everything, and count the system calls]"
  {-s,--silent}"[say errors only]"
  ":the directory of the queues, on storage all clients share:_files -/"
  ":the name of the queue:"
  ":ids, or the beginning of an id that no other message has:"
)

# guard to ensure default positional specs are added only once per session
_shtab_ddmq_status_defaults_added=0

_shtab_ddmq_submit_options=(
  "(- : *)"{-h,--help}"[show this, and end]"
  {-v,--version}"[show the version, also of what ddmq needs, and end]"
  "--workers[workers, each on one node\; auto\: enough for what waits now]:N|auto:"
  "--max-workers[never more than these\; for auto 100 by default]:N:"
  {-j,--slots}"[commands at once, and processors, for each worker]:N:"
  "--time[the time limit of the job]:[D-]HH:MM:SS:"
  "*"{-o,--option}"[for the scheduler\: q\=long is -q long\; mem\=4G is --mem\=4G on slurm, -l mem\=4G on pbs and sge\; \'-pe mpi 16\' and the like as they are]:KEY=VALUE:"
  "--chain[when the time is over and messages are left, start the next job\; N times at most]:N:"
  "--requeue[with --chain on Slurm\: requeue the job itself instead]"
  "--worker[the ddmq-worker that the job shall run]:PATH:_files"
  "--job-logs[the directory for what the jobs print, created if missing\; by default the current one]:DIR:"
  "--dry-run[print the job script, and submit nothing]"
  "--from-file[publish each line of FILE first, as \`ddmq publish --from-file\` does\; the same lines once only, however often that is started]:FILE:_files"
  {-f,--force}"[with --from-file\: create the root and the queue if they are missing]"
  "--stdin[give the text on standard input instead]"
  "--batch[give up to N messages to one command\: \{\} becomes several arguments, with --stdin several lines\; when it fails, each is run alone]:N:"
  "--persistent[each slot\'s command stays, gets one message after the other as lines of JSON, and answers each on descriptor 3\; see \`from ddmq.hpc import serve\`]"
  "--env[set a variable for the commands\: CUDA_VISIBLE_DEVICES\=\{slot0\}\; may be repeated]:NAME=VALUE:"
  "--bind[give each slot its own share of the job\'s cores\; more slots than cores share them in turn]"
  "--timeout[seconds that a command may run]:S:"
  "--grace[seconds from the request to end to SIGKILL\; 10 by default]:S:"
  "--term-signal[the signal by which a drain asks commands to end\; TERM by default]:NAME:"
  "--on-success[queue\:NAME moves the message on to another queue of this root\; lines\:NAME publishes each line of what the command wrote to \$DDMQ_OUTPUT there]:queue:NAME|lines:NAME:"
  "--fatal[exit statuses that make a message a dead letter at once\: 2,64-70]:CODES:"
  "--retry-free[exit statuses after which it is tried again and nothing counts\; 75 by default]:CODES:"
  "--on-exit[move the message to another queue of this root\; 128 \+ n stands for signal n, \`timeout\` for what exceeded --timeout, whatever its exit status is]:CODE=queue:NAME:"
  "--retries[a message that has no requeue_limit is tried again so often\; 3 by default]:N:"
  "--backoff[seconds until it is tried again\: after the first failure, the second, ...]:S[,S...]:"
  "--group[print all of a command in one piece, when it ends\; whole lines by default]"
  "--tag[print the text of the message before each line]"
  "--log-dir[keep what commands print there\; by default it goes where the worker\'s goes]:DIR:_files -/"
  "--logs[of which runs\: failed (by default), all or none]:WHICH:(failed all none)"
  "--log-limit[of each output, keep so much (also for --group)\: beginning and end\; 10M by default]:SIZE:"
  "--output-dir[what a command writes to \$DDMQ_OUTPUT becomes DIR\/\<id\> when it succeeded]:DIR:_files -/"
  "--output-name[the result\'s name in place of \<id\>\: \'\{\/.\}.gz\'\; two messages never share one]:NAME:"
  "--wait[linger for so many seconds when the queue is empty]:S:"
  "--until-done[go on until nothing is delayed or at work anywhere either]"
  "--forever[never end]"
  "--max-messages[start so many at most]:N:"
  "--max-failures[stop after so many failures, or when so many of 100 messages failed]:N|P%:"
  "--fast-failures[so many failures in a row within seconds\: this node is broken, stop, give them back]:N:"
  "--no-brake[go on though the first commands all fail\: ten, or as many as there are slots]"
  "--then[when the queue is done, run this, by one of the workers that are told so\: \'sbatch collect.sh\'\; no shell]:COMMAND:"
  "--then-even-if-dead[run it though there are dead letters]"
  "--poll-max[the longest pause between two looks into an empty queue\; 5 by default]:S:"
  "--deadline[the job ends then\: 2030-01-31T12\:00 or seconds since 1970\; known on Slurm]:TIME:"
  "--min-remaining[start nothing when less remains\; by default what 95 of 100 messages needed]:S:"
  "--progress[say how far the queue is, how fast, and when it is done\: in the last line of a terminal, or each minute]"
  {-d,--debug}"[count the file-system calls of each kind in the last line]"
  "--exit-zero[exit with 0, not with 4, when some messages failed\: the job has not]"
  ":slurm, pbs or sge:(slurm pbs sge)"
  ":the directory of the queues:_files -/"
  ":the name of the queue:"
)

# guard to ensure default positional specs are added only once per session
_shtab_ddmq_submit_defaults_added=0

_shtab_ddmq_view_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  {-n,--names}"[names only]"
  {-w,--watch}"[show it again and again, with rates and workers, until Ctrl-C\; 0 is as no number]:SECONDS:"
  "--format[how to print\; plain by default]:format:(plain json yaml)"
  {-v,--verbose}"[say more]"
  {-d,--debug}"[say everything, and count the system calls]"
  {-s,--silent}"[say errors only]"
  ":the directory of the queues, on storage all clients share:_files -/"
  ":queues, with commas\; all by default:"
)

# guard to ensure default positional specs are added only once per session
_shtab_ddmq_view_defaults_added=0

_shtab_ddmq_wait_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  {-t,--timeout}"[give up after so many seconds, with exit status 1]:timeout:"
  "--progress[say how far it is, how fast, and when it is done\; exit status 4 if messages are dead]"
  "--format[how to print\; plain by default]:format:(plain json yaml)"
  {-v,--verbose}"[say more]"
  {-d,--debug}"[say everything, and count the system calls]"
  {-s,--silent}"[say errors only]"
  ":the directory of the queues, on storage all clients share:_files -/"
  ":one queue, or several with commas:"
)

# guard to ensure default positional specs are added only once per session
_shtab_ddmq_wait_defaults_added=0

_shtab_ddmq_worker_options=(
  "(- : *)"{-h,--help}"[show this, and end]"
  {-v,--version}"[show the version, also of what ddmq needs, and end]"
  "--from-file[publish each line of FILE first, as \`ddmq publish --from-file\` does\; the same lines once only, however often that is started]:FILE:_files"
  {-f,--force}"[with --from-file\: create the root and the queue if they are missing]"
  {-j,--slots}"[how many commands to run at once\; by default what the scheduler allocated]:N:"
  "--stdin[give the text on standard input instead]"
  "--batch[give up to N messages to one command\: \{\} becomes several arguments, with --stdin several lines\; when it fails, each is run alone]:N:"
  "--persistent[each slot\'s command stays, gets one message after the other as lines of JSON, and answers each on descriptor 3\; see \`from ddmq.hpc import serve\`]"
  "--env[set a variable for the commands\: CUDA_VISIBLE_DEVICES\=\{slot0\}\; may be repeated]:NAME=VALUE:"
  "--bind[give each slot its own share of the job\'s cores\; more slots than cores share them in turn]"
  "--timeout[seconds that a command may run]:S:"
  "--grace[seconds from the request to end to SIGKILL\; 10 by default]:S:"
  "--term-signal[the signal by which a drain asks commands to end\; TERM by default]:NAME:"
  "--on-success[queue\:NAME moves the message on to another queue of this root\; lines\:NAME publishes each line of what the command wrote to \$DDMQ_OUTPUT there]:queue:NAME|lines:NAME:"
  "--fatal[exit statuses that make a message a dead letter at once\: 2,64-70]:CODES:"
  "--retry-free[exit statuses after which it is tried again and nothing counts\; 75 by default]:CODES:"
  "--on-exit[move the message to another queue of this root\; 128 \+ n stands for signal n, \`timeout\` for what exceeded --timeout, whatever its exit status is]:CODE=queue:NAME:"
  "--retries[a message that has no requeue_limit is tried again so often\; 3 by default]:N:"
  "--backoff[seconds until it is tried again\: after the first failure, the second, ...]:S[,S...]:"
  "--group[print all of a command in one piece, when it ends\; whole lines by default]"
  "--tag[print the text of the message before each line]"
  "--log-dir[keep what commands print there\; by default it goes where the worker\'s goes]:DIR:_files -/"
  "--logs[of which runs\: failed (by default), all or none]:WHICH:(failed all none)"
  "--log-limit[of each output, keep so much (also for --group)\: beginning and end\; 10M by default]:SIZE:"
  "--output-dir[what a command writes to \$DDMQ_OUTPUT becomes DIR\/\<id\> when it succeeded]:DIR:_files -/"
  "--output-name[the result\'s name in place of \<id\>\: \'\{\/.\}.gz\'\; two messages never share one]:NAME:"
  "--wait[linger for so many seconds when the queue is empty]:S:"
  "--until-done[go on until nothing is delayed or at work anywhere either]"
  "--forever[never end]"
  "--max-messages[start so many at most]:N:"
  "--max-failures[stop after so many failures, or when so many of 100 messages failed]:N|P%:"
  "--fast-failures[so many failures in a row within seconds\: this node is broken, stop, give them back]:N:"
  "--no-brake[go on though the first commands all fail\: ten, or as many as there are slots]"
  "--then[when the queue is done, run this, by one of the workers that are told so\: \'sbatch collect.sh\'\; no shell]:COMMAND:"
  "--then-even-if-dead[run it though there are dead letters]"
  "--poll-max[the longest pause between two looks into an empty queue\; 5 by default]:S:"
  "--time[the job ends so long after the start\: seconds or \[D-\]HH\:MM\:SS]:T:"
  "--deadline[the job ends then\: 2030-01-31T12\:00 or seconds since 1970\; known on Slurm]:TIME:"
  "--min-remaining[start nothing when less remains\; by default what 95 of 100 messages needed]:S:"
  "--progress[say how far the queue is, how fast, and when it is done\: in the last line of a terminal, or each minute]"
  {-d,--debug}"[count the file-system calls of each kind in the last line]"
  "--exit-zero[exit with 0, not with 4, when some messages failed\: the job has not]"
  ":the directory of the queues:_files -/"
  ":the name of the queue:"
)

# guard to ensure default positional specs are added only once per session
_shtab_ddmq_worker_defaults_added=0

_shtab_ddmq_workers_options=(
  "(- : *)"{-h,--help}"[show this help message and exit]"
  {-a,--all}"[those that ended, too, within the last week]"
  "--format[how to print\; plain by default]:format:(plain json yaml)"
  {-v,--verbose}"[say more]"
  {-d,--debug}"[say everything, and count the system calls]"
  {-s,--silent}"[say errors only]"
  ":the directory of the queues, on storage all clients share:_files -/"
  ":queues, with commas\; all by default:"
)

# guard to ensure default positional specs are added only once per session
_shtab_ddmq_workers_defaults_added=0


_shtab_ddmq() {
  local context state line curcontext="$curcontext" one_or_more='(*)' remainder='(-)*:' default='*::: :->ddmq'

  # Add default positional/remainder specs only if none exist, and only once per session
  if (( ! _shtab_ddmq_defaults_added )); then
    if (( ${_shtab_ddmq_options[(I)${(q)one_or_more}*]} +          ${_shtab_ddmq_options[(I)${(q)remainder}*]} +          ${_shtab_ddmq_options[(I)${(q)default}]} == 0 )); then
      _shtab_ddmq_options+=(': :_shtab_ddmq_commands' '*::: :->ddmq')
    fi
    _shtab_ddmq_defaults_added=1
  fi
  _arguments -C -s $_shtab_ddmq_options

  case $state in
    ddmq)
      words=($line[1] "${words[@]}")
      (( CURRENT += 1 ))
      curcontext="${curcontext%:*:*}:_shtab_ddmq-$line[1]:"
      case $line[1] in
        ack) _arguments -C -s $_shtab_ddmq_ack_options ;;
        cancel) _arguments -C -s $_shtab_ddmq_cancel_options ;;
        check) _arguments -C -s $_shtab_ddmq_check_options ;;
        clean) _arguments -C -s $_shtab_ddmq_clean_options ;;
        config) _arguments -C -s $_shtab_ddmq_config_options ;;
        consume) _arguments -C -s $_shtab_ddmq_consume_options ;;
        create) _arguments -C -s $_shtab_ddmq_create_options ;;
        dead) _arguments -C -s $_shtab_ddmq_dead_options ;;
        delete) _arguments -C -s $_shtab_ddmq_delete_options ;;
        doctor) _arguments -C -s $_shtab_ddmq_doctor_options ;;
        drain) _arguments -C -s $_shtab_ddmq_drain_options ;;
        export) _arguments -C -s $_shtab_ddmq_export_options ;;
        forget) _arguments -C -s $_shtab_ddmq_forget_options ;;
        help) _arguments -C -s $_shtab_ddmq_help_options ;;
        import) _arguments -C -s $_shtab_ddmq_import_options ;;
        json) _arguments -C -s $_shtab_ddmq_json_options ;;
        log) _arguments -C -s $_shtab_ddmq_log_options ;;
        migrate) _arguments -C -s $_shtab_ddmq_migrate_options ;;
        move) _arguments -C -s $_shtab_ddmq_move_options ;;
        nack) _arguments -C -s $_shtab_ddmq_nack_options ;;
        pause) _arguments -C -s $_shtab_ddmq_pause_options ;;
        peek) _arguments -C -s $_shtab_ddmq_peek_options ;;
        publish) _arguments -C -s $_shtab_ddmq_publish_options ;;
        purge) _arguments -C -s $_shtab_ddmq_purge_options ;;
        redrive) _arguments -C -s $_shtab_ddmq_redrive_options ;;
        reject) _arguments -C -s $_shtab_ddmq_reject_options ;;
        release) _arguments -C -s $_shtab_ddmq_release_options ;;
        renew) _arguments -C -s $_shtab_ddmq_renew_options ;;
        report) _arguments -C -s $_shtab_ddmq_report_options ;;
        results) _arguments -C -s $_shtab_ddmq_results_options ;;
        resume) _arguments -C -s $_shtab_ddmq_resume_options ;;
        show) _arguments -C -s $_shtab_ddmq_show_options ;;
        status) _arguments -C -s $_shtab_ddmq_status_options ;;
        submit) _arguments -C -s $_shtab_ddmq_submit_options ;;
        view) _arguments -C -s $_shtab_ddmq_view_options ;;
        wait) _arguments -C -s $_shtab_ddmq_wait_options ;;
        worker) _arguments -C -s $_shtab_ddmq_worker_options ;;
        workers) _arguments -C -s $_shtab_ddmq_workers_options ;;
      esac
  esac
}



typeset -A opt_args

if [[ $zsh_eval_context[-1] == eval ]]; then
  # eval/source/. command, register function for later
  compdef _shtab_ddmq -N ddmq
else
  # autoload from fpath, call function directly
  _shtab_ddmq "$@"
fi

#compdef ddmq-worker
# Completion of ddmq-worker, made by packaging/completion.py.

_shtab_ddmqworker_commands() {
  local _commands=(
    
  )
  _describe 'ddmq-worker commands' _commands
}

_shtab_ddmqworker_options=(
  "(- : *)"{-h,--help}"[show this, and end]"
  {-v,--version}"[show the version, also of what ddmq needs, and end]"
  "--from-file[publish each line of FILE first, as \`ddmq publish --from-file\` does\; the same lines once only, however often that is started]:FILE:_files"
  {-f,--force}"[with --from-file\: create the root and the queue if they are missing]"
  {-j,--slots}"[how many commands to run at once\; by default what the scheduler allocated]:N:"
  "--stdin[give the text on standard input instead]"
  "--batch[give up to N messages to one command\: \{\} becomes several arguments, with --stdin several lines\; when it fails, each is run alone]:N:"
  "--persistent[each slot\'s command stays, gets one message after the other as lines of JSON, and answers each on descriptor 3\; see \`from ddmq.hpc import serve\`]"
  "--env[set a variable for the commands\: CUDA_VISIBLE_DEVICES\=\{slot0\}\; may be repeated]:NAME=VALUE:"
  "--bind[give each slot its own share of the job\'s cores\; more slots than cores share them in turn]"
  "--timeout[seconds that a command may run]:S:"
  "--grace[seconds from the request to end to SIGKILL\; 10 by default]:S:"
  "--term-signal[the signal by which a drain asks commands to end\; TERM by default]:NAME:"
  "--on-success[queue\:NAME moves the message on to another queue of this root\; lines\:NAME publishes each line of what the command wrote to \$DDMQ_OUTPUT there]:queue:NAME|lines:NAME:"
  "--fatal[exit statuses that make a message a dead letter at once\: 2,64-70]:CODES:"
  "--retry-free[exit statuses after which it is tried again and nothing counts\; 75 by default]:CODES:"
  "--on-exit[move the message to another queue of this root\; 128 \+ n stands for signal n, \`timeout\` for what exceeded --timeout, whatever its exit status is]:CODE=queue:NAME:"
  "--retries[a message that has no requeue_limit is tried again so often\; 3 by default]:N:"
  "--backoff[seconds until it is tried again\: after the first failure, the second, ...]:S[,S...]:"
  "--group[print all of a command in one piece, when it ends\; whole lines by default]"
  "--tag[print the text of the message before each line]"
  "--log-dir[keep what commands print there\; by default it goes where the worker\'s goes]:DIR:_files -/"
  "--logs[of which runs\: failed (by default), all or none]:WHICH:(failed all none)"
  "--log-limit[of each output, keep so much (also for --group)\: beginning and end\; 10M by default]:SIZE:"
  "--output-dir[what a command writes to \$DDMQ_OUTPUT becomes DIR\/\<id\> when it succeeded]:DIR:_files -/"
  "--output-name[the result\'s name in place of \<id\>\: \'\{\/.\}.gz\'\; two messages never share one]:NAME:"
  "--wait[linger for so many seconds when the queue is empty]:S:"
  "--until-done[go on until nothing is delayed or at work anywhere either]"
  "--forever[never end]"
  "--max-messages[start so many at most]:N:"
  "--max-failures[stop after so many failures, or when so many of 100 messages failed]:N|P%:"
  "--fast-failures[so many failures in a row within seconds\: this node is broken, stop, give them back]:N:"
  "--no-brake[go on though the first commands all fail\: ten, or as many as there are slots]"
  "--then[when the queue is done, run this, by one of the workers that are told so\: \'sbatch collect.sh\'\; no shell]:COMMAND:"
  "--then-even-if-dead[run it though there are dead letters]"
  "--poll-max[the longest pause between two looks into an empty queue\; 5 by default]:S:"
  "--time[the job ends so long after the start\: seconds or \[D-\]HH\:MM\:SS]:T:"
  "--deadline[the job ends then\: 2030-01-31T12\:00 or seconds since 1970\; known on Slurm]:TIME:"
  "--min-remaining[start nothing when less remains\; by default what 95 of 100 messages needed]:S:"
  "--progress[say how far the queue is, how fast, and when it is done\: in the last line of a terminal, or each minute]"
  {-d,--debug}"[count the file-system calls of each kind in the last line]"
  "--exit-zero[exit with 0, not with 4, when some messages failed\: the job has not]"
  ":the directory of the queues:_files -/"
  ":the name of the queue:"
)

# guard to ensure default positional specs are added only once per session
_shtab_ddmqworker_defaults_added=0


_shtab_ddmqworker() {
  local context state line curcontext="$curcontext" one_or_more='(*)' remainder='(-)*:' default='*::: :->ddmq-worker'

  # Add default positional/remainder specs only if none exist, and only once per session
  if (( ! _shtab_ddmqworker_defaults_added )); then
    if (( ${_shtab_ddmqworker_options[(I)${(q)one_or_more}*]} +          ${_shtab_ddmqworker_options[(I)${(q)remainder}*]} +          ${_shtab_ddmqworker_options[(I)${(q)default}]} == 0 )); then
      _shtab_ddmqworker_options+=(': :_shtab_ddmqworker_commands' '*::: :->ddmq-worker')
    fi
    _shtab_ddmqworker_defaults_added=1
  fi
  _arguments -C -s $_shtab_ddmqworker_options

  case $state in
    ddmq-worker)
      words=($line[1] "${words[@]}")
      (( CURRENT += 1 ))
      curcontext="${curcontext%:*:*}:_shtab_ddmqworker-$line[1]:"
      case $line[1] in
        
      esac
  esac
}



typeset -A opt_args

if [[ $zsh_eval_context[-1] == eval ]]; then
  # eval/source/. command, register function for later
  compdef _shtab_ddmqworker -N ddmq-worker
else
  # autoload from fpath, call function directly
  _shtab_ddmqworker "$@"
fi

#compdef ddmq-submit
# Completion of ddmq-submit, made by packaging/completion.py.

_shtab_ddmqsubmit_commands() {
  local _commands=(
    
  )
  _describe 'ddmq-submit commands' _commands
}

_shtab_ddmqsubmit_options=(
  "(- : *)"{-h,--help}"[show this, and end]"
  {-v,--version}"[show the version, also of what ddmq needs, and end]"
  "--workers[workers, each on one node\; auto\: enough for what waits now]:N|auto:"
  "--max-workers[never more than these\; for auto 100 by default]:N:"
  {-j,--slots}"[commands at once, and processors, for each worker]:N:"
  "--time[the time limit of the job]:[D-]HH:MM:SS:"
  "*"{-o,--option}"[for the scheduler\: q\=long is -q long\; mem\=4G is --mem\=4G on slurm, -l mem\=4G on pbs and sge\; \'-pe mpi 16\' and the like as they are]:KEY=VALUE:"
  "--chain[when the time is over and messages are left, start the next job\; N times at most]:N:"
  "--requeue[with --chain on Slurm\: requeue the job itself instead]"
  "--worker[the ddmq-worker that the job shall run]:PATH:_files"
  "--job-logs[the directory for what the jobs print, created if missing\; by default the current one]:DIR:"
  "--dry-run[print the job script, and submit nothing]"
  "--from-file[publish each line of FILE first, as \`ddmq publish --from-file\` does\; the same lines once only, however often that is started]:FILE:_files"
  {-f,--force}"[with --from-file\: create the root and the queue if they are missing]"
  "--stdin[give the text on standard input instead]"
  "--batch[give up to N messages to one command\: \{\} becomes several arguments, with --stdin several lines\; when it fails, each is run alone]:N:"
  "--persistent[each slot\'s command stays, gets one message after the other as lines of JSON, and answers each on descriptor 3\; see \`from ddmq.hpc import serve\`]"
  "--env[set a variable for the commands\: CUDA_VISIBLE_DEVICES\=\{slot0\}\; may be repeated]:NAME=VALUE:"
  "--bind[give each slot its own share of the job\'s cores\; more slots than cores share them in turn]"
  "--timeout[seconds that a command may run]:S:"
  "--grace[seconds from the request to end to SIGKILL\; 10 by default]:S:"
  "--term-signal[the signal by which a drain asks commands to end\; TERM by default]:NAME:"
  "--on-success[queue\:NAME moves the message on to another queue of this root\; lines\:NAME publishes each line of what the command wrote to \$DDMQ_OUTPUT there]:queue:NAME|lines:NAME:"
  "--fatal[exit statuses that make a message a dead letter at once\: 2,64-70]:CODES:"
  "--retry-free[exit statuses after which it is tried again and nothing counts\; 75 by default]:CODES:"
  "--on-exit[move the message to another queue of this root\; 128 \+ n stands for signal n, \`timeout\` for what exceeded --timeout, whatever its exit status is]:CODE=queue:NAME:"
  "--retries[a message that has no requeue_limit is tried again so often\; 3 by default]:N:"
  "--backoff[seconds until it is tried again\: after the first failure, the second, ...]:S[,S...]:"
  "--group[print all of a command in one piece, when it ends\; whole lines by default]"
  "--tag[print the text of the message before each line]"
  "--log-dir[keep what commands print there\; by default it goes where the worker\'s goes]:DIR:_files -/"
  "--logs[of which runs\: failed (by default), all or none]:WHICH:(failed all none)"
  "--log-limit[of each output, keep so much (also for --group)\: beginning and end\; 10M by default]:SIZE:"
  "--output-dir[what a command writes to \$DDMQ_OUTPUT becomes DIR\/\<id\> when it succeeded]:DIR:_files -/"
  "--output-name[the result\'s name in place of \<id\>\: \'\{\/.\}.gz\'\; two messages never share one]:NAME:"
  "--wait[linger for so many seconds when the queue is empty]:S:"
  "--until-done[go on until nothing is delayed or at work anywhere either]"
  "--forever[never end]"
  "--max-messages[start so many at most]:N:"
  "--max-failures[stop after so many failures, or when so many of 100 messages failed]:N|P%:"
  "--fast-failures[so many failures in a row within seconds\: this node is broken, stop, give them back]:N:"
  "--no-brake[go on though the first commands all fail\: ten, or as many as there are slots]"
  "--then[when the queue is done, run this, by one of the workers that are told so\: \'sbatch collect.sh\'\; no shell]:COMMAND:"
  "--then-even-if-dead[run it though there are dead letters]"
  "--poll-max[the longest pause between two looks into an empty queue\; 5 by default]:S:"
  "--deadline[the job ends then\: 2030-01-31T12\:00 or seconds since 1970\; known on Slurm]:TIME:"
  "--min-remaining[start nothing when less remains\; by default what 95 of 100 messages needed]:S:"
  "--progress[say how far the queue is, how fast, and when it is done\: in the last line of a terminal, or each minute]"
  {-d,--debug}"[count the file-system calls of each kind in the last line]"
  "--exit-zero[exit with 0, not with 4, when some messages failed\: the job has not]"
  ":slurm, pbs or sge:(slurm pbs sge)"
  ":the directory of the queues:_files -/"
  ":the name of the queue:"
)

# guard to ensure default positional specs are added only once per session
_shtab_ddmqsubmit_defaults_added=0


_shtab_ddmqsubmit() {
  local context state line curcontext="$curcontext" one_or_more='(*)' remainder='(-)*:' default='*::: :->ddmq-submit'

  # Add default positional/remainder specs only if none exist, and only once per session
  if (( ! _shtab_ddmqsubmit_defaults_added )); then
    if (( ${_shtab_ddmqsubmit_options[(I)${(q)one_or_more}*]} +          ${_shtab_ddmqsubmit_options[(I)${(q)remainder}*]} +          ${_shtab_ddmqsubmit_options[(I)${(q)default}]} == 0 )); then
      _shtab_ddmqsubmit_options+=(': :_shtab_ddmqsubmit_commands' '*::: :->ddmq-submit')
    fi
    _shtab_ddmqsubmit_defaults_added=1
  fi
  _arguments -C -s $_shtab_ddmqsubmit_options

  case $state in
    ddmq-submit)
      words=($line[1] "${words[@]}")
      (( CURRENT += 1 ))
      curcontext="${curcontext%:*:*}:_shtab_ddmqsubmit-$line[1]:"
      case $line[1] in
        
      esac
  esac
}



typeset -A opt_args

if [[ $zsh_eval_context[-1] == eval ]]; then
  # eval/source/. command, register function for later
  compdef _shtab_ddmqsubmit -N ddmq-submit
else
  # autoload from fpath, call function directly
  _shtab_ddmqsubmit "$@"
fi
