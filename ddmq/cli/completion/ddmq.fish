# Completion of ddmq, made by packaging/completion.py.

# Parse current commandline:
# - _shtab_ddmq_cmdpath=(sub)command path seen so far
# - _shtab_ddmq_npos=number of positional arguments given after it
# - options are skipped based on _shtab_ddmq_opts_with_value & _shtab_ddmq_commands lists
function _shtab_ddmq_scan
  set -g _shtab_ddmq_cmdpath ''
  set -g _shtab_ddmq_npos 0
  set -l tokens (commandline -opc)
  set -e tokens[1]
  set -l expect_value 0
  for t in $tokens
    if test $expect_value -eq 1
      set expect_value 0
      continue
    end
    switch "$t"
      case '--*=*'
        continue
      case '-*'
        if contains -- $t $_shtab_ddmq_opts_with_value
          set expect_value 1
        end
        continue
      case '*'
        if test $_shtab_ddmq_npos -eq 0
          set -l candidate $t
          if test -n "$_shtab_ddmq_cmdpath"
            set candidate "$_shtab_ddmq_cmdpath $t"
          end
          if contains -- $candidate $_shtab_ddmq_commands
            set -g _shtab_ddmq_cmdpath $candidate
            continue
          end
        end
        set -g _shtab_ddmq_npos (math $_shtab_ddmq_npos + 1)
    end
  end
end

# Condition helper: true if the current (sub)command path equals the given one.
function _shtab_ddmq_using
  _shtab_ddmq_scan
  test "$_shtab_ddmq_cmdpath" = "$argv"
end

set -g _shtab_ddmq_commands view workers peek show status create delete publish forget consume ack nack release reject renew move cancel pause resume drain purge clean export import migrate dead log results report redrive wait config check doctor json worker submit help
set -g _shtab_ddmq_opts_with_value --backoff --batch --chain --clients --code --completion --concat --deadline --delay --env --fast-failures --fatal --format --from-file --grace --host --job --job-logs --key --lock-timeout --log-dir --log-limit --logs --max-failures --max-messages --max-workers --min-remaining --mode --number --on-exit --on-success --only --option --output --output-dir --output-name --poll-max --priority --purged-after --reason --requeue-limit --requeue-prio --retries --retry-free --set --since --slots --slowest --term-signal --text --then --time --timeout --unset --wait --watch --worker --workers -j -l -n -o -p -t -w

complete -c ddmq -e
complete -c ddmq -f

complete -c ddmq -n _shtab_ddmq_using -s h -l help -d 'show this help message and exit'
complete -c ddmq -n _shtab_ddmq_using -s v -l version -d 'show the version'
complete -c ddmq -n _shtab_ddmq_using -l completion -xka "bash zsh fish" -d 'print what completes words in a shell'
complete -c ddmq -n '_shtab_ddmq_using; and test $_shtab_ddmq_npos -eq 0' -a view -d 'Show how many messages wait, are at work, delayed or dead.'
complete -c ddmq -n '_shtab_ddmq_using view' -s h -l help -d 'show this help message and exit'
complete -c ddmq -n '_shtab_ddmq_using view' -s n -l names -d 'names only'
complete -c ddmq -n '_shtab_ddmq_using view' -s w -l watch -x -d 'show it again and again, with rates and workers, until Ctrl-C; 0 is as no number'
complete -c ddmq -n '_shtab_ddmq_using view' -l format -xka "plain json yaml" -d 'how to print; plain by default'
complete -c ddmq -n '_shtab_ddmq_using view' -s v -l verbose -d 'say more'
complete -c ddmq -n '_shtab_ddmq_using view' -s d -l debug -d 'say everything, and count the system calls'
complete -c ddmq -n '_shtab_ddmq_using view' -s s -l silent -d 'say errors only'
complete -c ddmq -n '_shtab_ddmq_using view; and test $_shtab_ddmq_npos -eq 0' -ka "(__fish_complete_directories)" -d 'the directory of the queues, on storage all clients share'
complete -c ddmq -n '_shtab_ddmq_using; and test $_shtab_ddmq_npos -eq 0' -a workers -d 'Show who works on a queue: slots, messages, rate, last sign of life.'
complete -c ddmq -n '_shtab_ddmq_using workers' -s h -l help -d 'show this help message and exit'
complete -c ddmq -n '_shtab_ddmq_using workers' -s a -l all -d 'those that ended, too, within the last week'
complete -c ddmq -n '_shtab_ddmq_using workers' -l format -xka "plain json yaml" -d 'how to print; plain by default'
complete -c ddmq -n '_shtab_ddmq_using workers' -s v -l verbose -d 'say more'
complete -c ddmq -n '_shtab_ddmq_using workers' -s d -l debug -d 'say everything, and count the system calls'
complete -c ddmq -n '_shtab_ddmq_using workers' -s s -l silent -d 'say errors only'
complete -c ddmq -n '_shtab_ddmq_using workers; and test $_shtab_ddmq_npos -eq 0' -ka "(__fish_complete_directories)" -d 'the directory of the queues, on storage all clients share'
complete -c ddmq -n '_shtab_ddmq_using; and test $_shtab_ddmq_npos -eq 0' -a peek -d 'Show the messages that would be consumed next, and take none.'
complete -c ddmq -n '_shtab_ddmq_using peek' -s h -l help -d 'show this help message and exit'
complete -c ddmq -n '_shtab_ddmq_using peek' -s n -l number -x -d 'so many at most; 10 by default'
complete -c ddmq -n '_shtab_ddmq_using peek' -l format -xka "plain json yaml" -d 'how to print; plain by default'
complete -c ddmq -n '_shtab_ddmq_using peek' -s v -l verbose -d 'say more'
complete -c ddmq -n '_shtab_ddmq_using peek' -s d -l debug -d 'say everything, and count the system calls'
complete -c ddmq -n '_shtab_ddmq_using peek' -s s -l silent -d 'say errors only'
complete -c ddmq -n '_shtab_ddmq_using peek; and test $_shtab_ddmq_npos -eq 0' -ka "(__fish_complete_directories)" -d 'the directory of the queues, on storage all clients share'
complete -c ddmq -n '_shtab_ddmq_using; and test $_shtab_ddmq_npos -eq 0' -a show -d 'Show one message whole: waiting, at work, delayed or dead.'
complete -c ddmq -n '_shtab_ddmq_using show' -s h -l help -d 'show this help message and exit'
complete -c ddmq -n '_shtab_ddmq_using show' -l key -x -d 'in place of an id: the message published with this key'
complete -c ddmq -n '_shtab_ddmq_using show' -l text -x -d 'in place of an id: the message with this text, or with this in its text'
complete -c ddmq -n '_shtab_ddmq_using show' -l format -xka "plain json yaml" -d 'how to print; plain by default'
complete -c ddmq -n '_shtab_ddmq_using show' -s v -l verbose -d 'say more'
complete -c ddmq -n '_shtab_ddmq_using show' -s d -l debug -d 'say everything, and count the system calls'
complete -c ddmq -n '_shtab_ddmq_using show' -s s -l silent -d 'say errors only'
complete -c ddmq -n '_shtab_ddmq_using show; and test $_shtab_ddmq_npos -eq 0' -ka "(__fish_complete_directories)" -d 'the directory of the queues, on storage all clients share'
complete -c ddmq -n '_shtab_ddmq_using; and test $_shtab_ddmq_npos -eq 0' -a status -d 'Tell where messages are, or what became of them, in a word each.'
complete -c ddmq -n '_shtab_ddmq_using status' -s h -l help -d 'show this help message and exit'
complete -c ddmq -n '_shtab_ddmq_using status' -l key -x -d 'in place of an id: the message published with this key'
complete -c ddmq -n '_shtab_ddmq_using status' -l text -x -d 'in place of an id: the message with this text, or with this in its text'
complete -c ddmq -n '_shtab_ddmq_using status' -l history -d 'with each try: when, how it ended, where, and its logs'
complete -c ddmq -n '_shtab_ddmq_using status' -l snakemake -d 'of one message: running, success or failed, with exit status 0'
complete -c ddmq -n '_shtab_ddmq_using status' -l format -xka "plain json yaml csv" -d 'how to print; plain by default'
complete -c ddmq -n '_shtab_ddmq_using status' -s v -l verbose -d 'say more'
complete -c ddmq -n '_shtab_ddmq_using status' -s d -l debug -d 'say everything, and count the system calls'
complete -c ddmq -n '_shtab_ddmq_using status' -s s -l silent -d 'say errors only'
complete -c ddmq -n '_shtab_ddmq_using status; and test $_shtab_ddmq_npos -eq 0' -ka "(__fish_complete_directories)" -d 'the directory of the queues, on storage all clients share'
complete -c ddmq -n '_shtab_ddmq_using; and test $_shtab_ddmq_npos -eq 0' -a create -d 'Make a queue.'
complete -c ddmq -n '_shtab_ddmq_using create' -s h -l help -d 'show this help message and exit'
complete -c ddmq -n '_shtab_ddmq_using create' -s f -l force -d 'create and initiate what is missing'
complete -c ddmq -n '_shtab_ddmq_using create' -l mode -x -d 'mode of its directories, and so of its files: 2770 shares it with the group'
complete -c ddmq -n '_shtab_ddmq_using create' -l lock-timeout -x -d 'seconds to wait for the lock; the setting lock_timeout by default'
complete -c ddmq -n '_shtab_ddmq_using create' -l format -xka "plain json yaml" -d 'how to print; plain by default'
complete -c ddmq -n '_shtab_ddmq_using create' -s v -l verbose -d 'say more'
complete -c ddmq -n '_shtab_ddmq_using create' -s d -l debug -d 'say everything, and count the system calls'
complete -c ddmq -n '_shtab_ddmq_using create' -s s -l silent -d 'say errors only'
complete -c ddmq -n '_shtab_ddmq_using create; and test $_shtab_ddmq_npos -eq 0' -ka "(__fish_complete_directories)" -d 'the directory of the queues, on storage all clients share'
complete -c ddmq -n '_shtab_ddmq_using; and test $_shtab_ddmq_npos -eq 0' -a delete -d 'Remove a queue with all its messages.'
complete -c ddmq -n '_shtab_ddmq_using delete' -s h -l help -d 'show this help message and exit'
complete -c ddmq -n '_shtab_ddmq_using delete' -l lock-timeout -x -d 'seconds to wait for the lock; the setting lock_timeout by default'
complete -c ddmq -n '_shtab_ddmq_using delete' -l format -xka "plain json yaml" -d 'how to print; plain by default'
complete -c ddmq -n '_shtab_ddmq_using delete' -s v -l verbose -d 'say more'
complete -c ddmq -n '_shtab_ddmq_using delete' -s d -l debug -d 'say everything, and count the system calls'
complete -c ddmq -n '_shtab_ddmq_using delete' -s s -l silent -d 'say errors only'
complete -c ddmq -n '_shtab_ddmq_using delete; and test $_shtab_ddmq_npos -eq 0' -ka "(__fish_complete_directories)" -d 'the directory of the queues, on storage all clients share'
complete -c ddmq -n '_shtab_ddmq_using; and test $_shtab_ddmq_npos -eq 0' -a publish -d 'Put a message, or one for each line of a file, into a queue.'
complete -c ddmq -n '_shtab_ddmq_using publish' -s h -l help -d 'show this help message and exit'
complete -c ddmq -n '_shtab_ddmq_using publish' -s f -l force -d 'create and initiate what is missing'
complete -c ddmq -n '_shtab_ddmq_using publish' -l from-file -xka "(__fish_complete_path (commandline -ct))" -d 'one message for each line that is not empty; - is standard input'
complete -c ddmq -n '_shtab_ddmq_using publish' -l json -d 'the message, or each line, is a JSON value'
complete -c ddmq -n '_shtab_ddmq_using publish' -l null -d 'messages in the file end with a NUL, as those of `find -print0`'
complete -c ddmq -n '_shtab_ddmq_using publish' -l skip-invalid -d 'leave out lines that are no UTF-8, or no JSON with --json, and tell their numbers'
complete -c ddmq -n '_shtab_ddmq_using publish' -s p -l priority -x -d '0 is first; 999 by default'
complete -c ddmq -n '_shtab_ddmq_using publish' -s t -l timeout -x -d 'seconds until it is requeued unacked'
complete -c ddmq -n '_shtab_ddmq_using publish' -s r -l requeue -d 'try it again when it fails'
complete -c ddmq -n '_shtab_ddmq_using publish' -l no-requeue -d 'a dead letter when it fails'
complete -c ddmq -n '_shtab_ddmq_using publish' -s l -l requeue-limit -x -d 'how often to try it again; null: no limit'
complete -c ddmq -n '_shtab_ddmq_using publish' -l requeue-prio -x -d 'priority when tried again'
complete -c ddmq -n '_shtab_ddmq_using publish' -l delay -x -d 'seconds until it is visible'
complete -c ddmq -n '_shtab_ddmq_using publish' -l durable -d 'wait until it is on stable storage'
complete -c ddmq -n '_shtab_ddmq_using publish' -l no-durable -d 'leave that to the system: faster'
complete -c ddmq -n '_shtab_ddmq_using publish' -l key -x -d 'add nothing if anything was published with this key, and print the same'
complete -c ddmq -n '_shtab_ddmq_using publish' -s C -l skip-cleaning -d 'leave the housekeeping to others'
complete -c ddmq -n '_shtab_ddmq_using publish' -l format -xka "plain json yaml" -d 'how to print; plain by default'
complete -c ddmq -n '_shtab_ddmq_using publish' -s v -l verbose -d 'say more'
complete -c ddmq -n '_shtab_ddmq_using publish' -s d -l debug -d 'say everything, and count the system calls'
complete -c ddmq -n '_shtab_ddmq_using publish' -s s -l silent -d 'say errors only'
complete -c ddmq -n '_shtab_ddmq_using publish; and test $_shtab_ddmq_npos -eq 0' -ka "(__fish_complete_directories)" -d 'the directory of the queues, on storage all clients share'
complete -c ddmq -n '_shtab_ddmq_using; and test $_shtab_ddmq_npos -eq 0' -a forget -d 'Let the key of a `publish --key` be used once more.'
complete -c ddmq -n '_shtab_ddmq_using forget' -s h -l help -d 'show this help message and exit'
complete -c ddmq -n '_shtab_ddmq_using forget' -l format -xka "plain json yaml" -d 'how to print; plain by default'
complete -c ddmq -n '_shtab_ddmq_using forget' -s v -l verbose -d 'say more'
complete -c ddmq -n '_shtab_ddmq_using forget' -s d -l debug -d 'say everything, and count the system calls'
complete -c ddmq -n '_shtab_ddmq_using forget' -s s -l silent -d 'say errors only'
complete -c ddmq -n '_shtab_ddmq_using forget; and test $_shtab_ddmq_npos -eq 0' -ka "(__fish_complete_directories)" -d 'the directory of the queues, on storage all clients share'
complete -c ddmq -n '_shtab_ddmq_using; and test $_shtab_ddmq_npos -eq 0' -a consume -d 'Lease the first message and print it; exit status 3 when there is none.'
complete -c ddmq -n '_shtab_ddmq_using consume' -s h -l help -d 'show this help message and exit'
complete -c ddmq -n '_shtab_ddmq_using consume' -s n -l number -x -d 'up to so many at once'
complete -c ddmq -n '_shtab_ddmq_using consume' -s C -l skip-cleaning -d 'leave the housekeeping to others'
complete -c ddmq -n '_shtab_ddmq_using consume' -l format -xka "plain json yaml" -d 'how to print; json by default'
complete -c ddmq -n '_shtab_ddmq_using consume' -s v -l verbose -d 'say more'
complete -c ddmq -n '_shtab_ddmq_using consume' -s d -l debug -d 'say everything, and count the system calls'
complete -c ddmq -n '_shtab_ddmq_using consume' -s s -l silent -d 'say errors only'
complete -c ddmq -n '_shtab_ddmq_using consume; and test $_shtab_ddmq_npos -eq 0' -ka "(__fish_complete_directories)" -d 'the directory of the queues, on storage all clients share'
complete -c ddmq -n '_shtab_ddmq_using; and test $_shtab_ddmq_npos -eq 0' -a ack -d 'Finish consumed messages.'
complete -c ddmq -n '_shtab_ddmq_using ack' -s h -l help -d 'show this help message and exit'
complete -c ddmq -n '_shtab_ddmq_using ack' -l format -xka "plain json yaml" -d 'how to print; plain by default'
complete -c ddmq -n '_shtab_ddmq_using ack' -s v -l verbose -d 'say more'
complete -c ddmq -n '_shtab_ddmq_using ack' -s d -l debug -d 'say everything, and count the system calls'
complete -c ddmq -n '_shtab_ddmq_using ack' -s s -l silent -d 'say errors only'
complete -c ddmq -n '_shtab_ddmq_using ack; and test $_shtab_ddmq_npos -eq 0' -ka "(__fish_complete_directories)" -d 'the directory of the queues, on storage all clients share'
complete -c ddmq -n '_shtab_ddmq_using; and test $_shtab_ddmq_npos -eq 0' -a nack -d 'Say that consumed messages failed: they are tried again, or dead.'
complete -c ddmq -n '_shtab_ddmq_using nack' -s h -l help -d 'show this help message and exit'
complete -c ddmq -n '_shtab_ddmq_using nack' -l delay -x -d 'seconds until it is visible'
complete -c ddmq -n '_shtab_ddmq_using nack' -l reason -x -d 'why, for its dead letter'
complete -c ddmq -n '_shtab_ddmq_using nack' -l format -xka "plain json yaml" -d 'how to print; plain by default'
complete -c ddmq -n '_shtab_ddmq_using nack' -s v -l verbose -d 'say more'
complete -c ddmq -n '_shtab_ddmq_using nack' -s d -l debug -d 'say everything, and count the system calls'
complete -c ddmq -n '_shtab_ddmq_using nack' -s s -l silent -d 'say errors only'
complete -c ddmq -n '_shtab_ddmq_using nack; and test $_shtab_ddmq_npos -eq 0' -ka "(__fish_complete_directories)" -d 'the directory of the queues, on storage all clients share'
complete -c ddmq -n '_shtab_ddmq_using; and test $_shtab_ddmq_npos -eq 0' -a release -d 'Give consumed messages back unharmed; it does not count.'
complete -c ddmq -n '_shtab_ddmq_using release' -s h -l help -d 'show this help message and exit'
complete -c ddmq -n '_shtab_ddmq_using release' -l format -xka "plain json yaml" -d 'how to print; plain by default'
complete -c ddmq -n '_shtab_ddmq_using release' -s v -l verbose -d 'say more'
complete -c ddmq -n '_shtab_ddmq_using release' -s d -l debug -d 'say everything, and count the system calls'
complete -c ddmq -n '_shtab_ddmq_using release' -s s -l silent -d 'say errors only'
complete -c ddmq -n '_shtab_ddmq_using release; and test $_shtab_ddmq_npos -eq 0' -ka "(__fish_complete_directories)" -d 'the directory of the queues, on storage all clients share'
complete -c ddmq -n '_shtab_ddmq_using; and test $_shtab_ddmq_npos -eq 0' -a reject -d 'Make consumed messages dead letters at once.'
complete -c ddmq -n '_shtab_ddmq_using reject' -s h -l help -d 'show this help message and exit'
complete -c ddmq -n '_shtab_ddmq_using reject' -l reason -x -d 'why, for its dead letter'
complete -c ddmq -n '_shtab_ddmq_using reject' -l format -xka "plain json yaml" -d 'how to print; plain by default'
complete -c ddmq -n '_shtab_ddmq_using reject' -s v -l verbose -d 'say more'
complete -c ddmq -n '_shtab_ddmq_using reject' -s d -l debug -d 'say everything, and count the system calls'
complete -c ddmq -n '_shtab_ddmq_using reject' -s s -l silent -d 'say errors only'
complete -c ddmq -n '_shtab_ddmq_using reject; and test $_shtab_ddmq_npos -eq 0' -ka "(__fish_complete_directories)" -d 'the directory of the queues, on storage all clients share'
complete -c ddmq -n '_shtab_ddmq_using; and test $_shtab_ddmq_npos -eq 0' -a renew -d 'Prolong the leases of consumed messages.'
complete -c ddmq -n '_shtab_ddmq_using renew' -s h -l help -d 'show this help message and exit'
complete -c ddmq -n '_shtab_ddmq_using renew' -s t -l timeout -x -d 'seconds from now'
complete -c ddmq -n '_shtab_ddmq_using renew' -l format -xka "plain json yaml" -d 'how to print; plain by default'
complete -c ddmq -n '_shtab_ddmq_using renew' -s v -l verbose -d 'say more'
complete -c ddmq -n '_shtab_ddmq_using renew' -s d -l debug -d 'say everything, and count the system calls'
complete -c ddmq -n '_shtab_ddmq_using renew' -s s -l silent -d 'say errors only'
complete -c ddmq -n '_shtab_ddmq_using renew; and test $_shtab_ddmq_npos -eq 0' -ka "(__fish_complete_directories)" -d 'the directory of the queues, on storage all clients share'
complete -c ddmq -n '_shtab_ddmq_using; and test $_shtab_ddmq_npos -eq 0' -a move -d 'Move messages that wait or are delayed to another queue.'
complete -c ddmq -n '_shtab_ddmq_using move' -s h -l help -d 'show this help message and exit'
complete -c ddmq -n '_shtab_ddmq_using move' -l format -xka "plain json yaml" -d 'how to print; plain by default'
complete -c ddmq -n '_shtab_ddmq_using move' -s v -l verbose -d 'say more'
complete -c ddmq -n '_shtab_ddmq_using move' -s d -l debug -d 'say everything, and count the system calls'
complete -c ddmq -n '_shtab_ddmq_using move' -s s -l silent -d 'say errors only'
complete -c ddmq -n '_shtab_ddmq_using move; and test $_shtab_ddmq_npos -eq 0' -ka "(__fish_complete_directories)" -d 'the directory of the queues, on storage all clients share'
complete -c ddmq -n '_shtab_ddmq_using; and test $_shtab_ddmq_npos -eq 0' -a cancel -d 'Make dead letters of messages that nobody is to run, or to run on.'
complete -c ddmq -n '_shtab_ddmq_using cancel' -s h -l help -d 'show this help message and exit'
complete -c ddmq -n '_shtab_ddmq_using cancel' -l key -x -d 'in place of an id: the message published with this key'
complete -c ddmq -n '_shtab_ddmq_using cancel' -l text -x -d 'in place of an id: the message with this text, or with this in its text'
complete -c ddmq -n '_shtab_ddmq_using cancel' -l format -xka "plain json yaml" -d 'how to print; plain by default'
complete -c ddmq -n '_shtab_ddmq_using cancel' -s v -l verbose -d 'say more'
complete -c ddmq -n '_shtab_ddmq_using cancel' -s d -l debug -d 'say everything, and count the system calls'
complete -c ddmq -n '_shtab_ddmq_using cancel' -s s -l silent -d 'say errors only'
complete -c ddmq -n '_shtab_ddmq_using cancel; and test $_shtab_ddmq_npos -eq 0' -ka "(__fish_complete_directories)" -d 'the directory of the queues, on storage all clients share'
complete -c ddmq -n '_shtab_ddmq_using; and test $_shtab_ddmq_npos -eq 0' -a pause -d 'Let workers finish what they hold, and take no more from a queue.'
complete -c ddmq -n '_shtab_ddmq_using pause' -s h -l help -d 'show this help message and exit'
complete -c ddmq -n '_shtab_ddmq_using pause' -l format -xka "plain json yaml" -d 'how to print; plain by default'
complete -c ddmq -n '_shtab_ddmq_using pause' -s v -l verbose -d 'say more'
complete -c ddmq -n '_shtab_ddmq_using pause' -s d -l debug -d 'say everything, and count the system calls'
complete -c ddmq -n '_shtab_ddmq_using pause' -s s -l silent -d 'say errors only'
complete -c ddmq -n '_shtab_ddmq_using pause; and test $_shtab_ddmq_npos -eq 0' -ka "(__fish_complete_directories)" -d 'the directory of the queues, on storage all clients share'
complete -c ddmq -n '_shtab_ddmq_using; and test $_shtab_ddmq_npos -eq 0' -a resume -d 'Let workers take messages of a paused queue again.'
complete -c ddmq -n '_shtab_ddmq_using resume' -s h -l help -d 'show this help message and exit'
complete -c ddmq -n '_shtab_ddmq_using resume' -l format -xka "plain json yaml" -d 'how to print; plain by default'
complete -c ddmq -n '_shtab_ddmq_using resume' -s v -l verbose -d 'say more'
complete -c ddmq -n '_shtab_ddmq_using resume' -s d -l debug -d 'say everything, and count the system calls'
complete -c ddmq -n '_shtab_ddmq_using resume' -s s -l silent -d 'say errors only'
complete -c ddmq -n '_shtab_ddmq_using resume; and test $_shtab_ddmq_npos -eq 0' -ka "(__fish_complete_directories)" -d 'the directory of the queues, on storage all clients share'
complete -c ddmq -n '_shtab_ddmq_using; and test $_shtab_ddmq_npos -eq 0' -a drain -d 'Let workers finish what they hold, take no more, and end.'
complete -c ddmq -n '_shtab_ddmq_using drain' -s h -l help -d 'show this help message and exit'
complete -c ddmq -n '_shtab_ddmq_using drain' -l all -d 'all workers of the queue'
complete -c ddmq -n '_shtab_ddmq_using drain' -l host -x -d 'those on this host'
complete -c ddmq -n '_shtab_ddmq_using drain' -l job -x -d 'those of this batch job, or of this array'
complete -c ddmq -n '_shtab_ddmq_using drain' -l format -xka "plain json yaml" -d 'how to print; plain by default'
complete -c ddmq -n '_shtab_ddmq_using drain' -s v -l verbose -d 'say more'
complete -c ddmq -n '_shtab_ddmq_using drain' -s d -l debug -d 'say everything, and count the system calls'
complete -c ddmq -n '_shtab_ddmq_using drain' -s s -l silent -d 'say errors only'
complete -c ddmq -n '_shtab_ddmq_using drain; and test $_shtab_ddmq_npos -eq 0' -ka "(__fish_complete_directories)" -d 'the directory of the queues, on storage all clients share'
complete -c ddmq -n '_shtab_ddmq_using; and test $_shtab_ddmq_npos -eq 0' -a purge -d 'Remove the messages of a queue, or those in some states.'
complete -c ddmq -n '_shtab_ddmq_using purge' -s h -l help -d 'show this help message and exit'
complete -c ddmq -n '_shtab_ddmq_using purge' -l only -x -d 'of waiting, work, delayed and dead only these'
complete -c ddmq -n '_shtab_ddmq_using purge' -l lock-timeout -x -d 'seconds to wait for the lock; the setting lock_timeout by default'
complete -c ddmq -n '_shtab_ddmq_using purge' -l format -xka "plain json yaml" -d 'how to print; plain by default'
complete -c ddmq -n '_shtab_ddmq_using purge' -s v -l verbose -d 'say more'
complete -c ddmq -n '_shtab_ddmq_using purge' -s d -l debug -d 'say everything, and count the system calls'
complete -c ddmq -n '_shtab_ddmq_using purge' -s s -l silent -d 'say errors only'
complete -c ddmq -n '_shtab_ddmq_using purge; and test $_shtab_ddmq_npos -eq 0' -ka "(__fish_complete_directories)" -d 'the directory of the queues, on storage all clients share'
complete -c ddmq -n '_shtab_ddmq_using; and test $_shtab_ddmq_npos -eq 0' -a clean -d 'Do all the housekeeping of a queue now.'
complete -c ddmq -n '_shtab_ddmq_using clean' -s h -l help -d 'show this help message and exit'
complete -c ddmq -n '_shtab_ddmq_using clean' -l end-leases -d 'let all that is at work come back now, for when its consumers are dead; what lives is run twice'
complete -c ddmq -n '_shtab_ddmq_using clean' -s f -l force -d 'also where workers live, or seem to'
complete -c ddmq -n '_shtab_ddmq_using clean' -l format -xka "plain json yaml" -d 'how to print; plain by default'
complete -c ddmq -n '_shtab_ddmq_using clean' -s v -l verbose -d 'say more'
complete -c ddmq -n '_shtab_ddmq_using clean' -s d -l debug -d 'say everything, and count the system calls'
complete -c ddmq -n '_shtab_ddmq_using clean' -s s -l silent -d 'say errors only'
complete -c ddmq -n '_shtab_ddmq_using clean; and test $_shtab_ddmq_npos -eq 0' -ka "(__fish_complete_directories)" -d 'the directory of the queues, on storage all clients share'
complete -c ddmq -n '_shtab_ddmq_using; and test $_shtab_ddmq_npos -eq 0' -a export -d 'Write all that waits, is delayed or dead as lines of JSON.'
complete -c ddmq -n '_shtab_ddmq_using export' -s h -l help -d 'show this help message and exit'
complete -c ddmq -n '_shtab_ddmq_using export' -s o -l output -xka "(__fish_complete_path (commandline -ct))" -d 'this file, which is there whole or not at all; standard output by default'
complete -c ddmq -n '_shtab_ddmq_using export' -l work -d 'what is at work, too'
complete -c ddmq -n '_shtab_ddmq_using export' -l no-dead -d 'no dead letters'
complete -c ddmq -n '_shtab_ddmq_using export' -s v -l verbose -d 'say more'
complete -c ddmq -n '_shtab_ddmq_using export' -s d -l debug -d 'say everything, and count the system calls'
complete -c ddmq -n '_shtab_ddmq_using export' -s s -l silent -d 'say errors only'
complete -c ddmq -n '_shtab_ddmq_using export; and test $_shtab_ddmq_npos -eq 0' -ka "(__fish_complete_directories)" -d 'the directory of the queues, on storage all clients share'
complete -c ddmq -n '_shtab_ddmq_using; and test $_shtab_ddmq_npos -eq 0' -a import -d 'Publish what was exported, here or elsewhere; if it was before, it comes twice.'
complete -c ddmq -n '_shtab_ddmq_using import' -s h -l help -d 'show this help message and exit'
complete -c ddmq -n '_shtab_ddmq_using import' -s f -l force -d 'create and initiate what is missing'
complete -c ddmq -n '_shtab_ddmq_using import' -l no-dead -d 'leave dead letters out'
complete -c ddmq -n '_shtab_ddmq_using import' -l format -xka "plain json yaml" -d 'how to print; plain by default'
complete -c ddmq -n '_shtab_ddmq_using import' -s v -l verbose -d 'say more'
complete -c ddmq -n '_shtab_ddmq_using import' -s d -l debug -d 'say everything, and count the system calls'
complete -c ddmq -n '_shtab_ddmq_using import' -s s -l silent -d 'say errors only'
complete -c ddmq -n '_shtab_ddmq_using import; and test $_shtab_ddmq_npos -eq 0' -ka "(__fish_complete_directories)" -d 'the directory of the queues, on storage all clients share'
complete -c ddmq -n '_shtab_ddmq_using import; and test $_shtab_ddmq_npos -eq 2' -ka "(__fish_complete_path (commandline -ct))" -d 'what `ddmq export` wrote; - is standard input'
complete -c ddmq -n '_shtab_ddmq_using; and test $_shtab_ddmq_npos -eq 0' -a migrate -d 'Take over the queues that ddmq 0.9 made; run it again if it was interrupted.'
complete -c ddmq -n '_shtab_ddmq_using migrate' -s h -l help -d 'show this help message and exit'
complete -c ddmq -n '_shtab_ddmq_using migrate' -s f -l force -d 'create and initiate what is missing'
complete -c ddmq -n '_shtab_ddmq_using migrate' -l copy -d 'leave the old files as they are; publish copies'
complete -c ddmq -n '_shtab_ddmq_using migrate' -l work -d 'also what an old consumer still holds: it may be done twice'
complete -c ddmq -n '_shtab_ddmq_using migrate' -l format -xka "plain json yaml" -d 'how to print; plain by default'
complete -c ddmq -n '_shtab_ddmq_using migrate' -s v -l verbose -d 'say more'
complete -c ddmq -n '_shtab_ddmq_using migrate' -s d -l debug -d 'say everything, and count the system calls'
complete -c ddmq -n '_shtab_ddmq_using migrate' -s s -l silent -d 'say errors only'
complete -c ddmq -n '_shtab_ddmq_using migrate; and test $_shtab_ddmq_npos -eq 0' -ka "(__fish_complete_directories)" -d 'the directory of the queues of ddmq 0.9'
complete -c ddmq -n '_shtab_ddmq_using migrate; and test $_shtab_ddmq_npos -eq 1' -ka "(__fish_complete_directories)" -d 'the directory of the queues of this ddmq; another one'
complete -c ddmq -n '_shtab_ddmq_using; and test $_shtab_ddmq_npos -eq 0' -a dead -d 'List dead letters, with the reasons, or show one whole.'
complete -c ddmq -n '_shtab_ddmq_using dead' -s h -l help -d 'show this help message and exit'
complete -c ddmq -n '_shtab_ddmq_using dead' -l key -x -d 'in place of an id: the message published with this key'
complete -c ddmq -n '_shtab_ddmq_using dead' -l text -x -d 'in place of an id: the message with this text, or with this in its text'
complete -c ddmq -n '_shtab_ddmq_using dead' -s k -l kinds -d 'what they died of, in few lines, and what redrives each kind'
complete -c ddmq -n '_shtab_ddmq_using dead' -l format -xka "plain json yaml" -d 'how to print; plain by default'
complete -c ddmq -n '_shtab_ddmq_using dead' -s v -l verbose -d 'say more'
complete -c ddmq -n '_shtab_ddmq_using dead' -s d -l debug -d 'say everything, and count the system calls'
complete -c ddmq -n '_shtab_ddmq_using dead' -s s -l silent -d 'say errors only'
complete -c ddmq -n '_shtab_ddmq_using dead; and test $_shtab_ddmq_npos -eq 0' -ka "(__fish_complete_directories)" -d 'the directory of the queues, on storage all clients share'
complete -c ddmq -n '_shtab_ddmq_using; and test $_shtab_ddmq_npos -eq 0' -a log -d 'List the runs of commands that workers kept in their journals.'
complete -c ddmq -n '_shtab_ddmq_using log' -s h -l help -d 'show this help message and exit'
complete -c ddmq -n '_shtab_ddmq_using log' -l failed -d 'only those that did not succeed'
complete -c ddmq -n '_shtab_ddmq_using log' -l host -x -d 'only those on this host'
complete -c ddmq -n '_shtab_ddmq_using log' -l text -x -d 'only those of messages that have TEXT in them, with the paths of their logs'
complete -c ddmq -n '_shtab_ddmq_using log' -l slowest -x -d 'the slowest N, slowest first'
complete -c ddmq -n '_shtab_ddmq_using log' -l compact -d 'merge the journals of workers that ended a week ago'
complete -c ddmq -n '_shtab_ddmq_using log' -l format -xka "plain json yaml csv" -d 'how to print; plain by default'
complete -c ddmq -n '_shtab_ddmq_using log' -s v -l verbose -d 'say more'
complete -c ddmq -n '_shtab_ddmq_using log' -s d -l debug -d 'say everything, and count the system calls'
complete -c ddmq -n '_shtab_ddmq_using log' -s s -l silent -d 'say errors only'
complete -c ddmq -n '_shtab_ddmq_using log; and test $_shtab_ddmq_npos -eq 0' -ka "(__fish_complete_directories)" -d 'the directory of the queues, on storage all clients share'
complete -c ddmq -n '_shtab_ddmq_using; and test $_shtab_ddmq_npos -eq 0' -a results -d 'List which result belongs to which message, by the journals; or write their contents.'
complete -c ddmq -n '_shtab_ddmq_using results' -s h -l help -d 'show this help message and exit'
complete -c ddmq -n '_shtab_ddmq_using results' -l cat -d 'write the contents of all results to standard output, in the order of publishing'
complete -c ddmq -n '_shtab_ddmq_using results' -l concat -x -d 'the same to this file, which is there whole or not at all; -: as --cat'
complete -c ddmq -n '_shtab_ddmq_using results' -l format -xka "plain json yaml csv" -d 'how to print; plain by default'
complete -c ddmq -n '_shtab_ddmq_using results' -s v -l verbose -d 'say more'
complete -c ddmq -n '_shtab_ddmq_using results' -s d -l debug -d 'say everything, and count the system calls'
complete -c ddmq -n '_shtab_ddmq_using results' -s s -l silent -d 'say errors only'
complete -c ddmq -n '_shtab_ddmq_using results; and test $_shtab_ddmq_npos -eq 0' -ka "(__fish_complete_directories)" -d 'the directory of the queues, on storage all clients share'
complete -c ddmq -n '_shtab_ddmq_using results; and test $_shtab_ddmq_npos -eq 2' -ka "(__fish_complete_directories)" -d 'the --output-dir of the workers; by default, all those that your workers noted in the journals'
complete -c ddmq -n '_shtab_ddmq_using; and test $_shtab_ddmq_npos -eq 0' -a report -d 'Make a page that tells what a run was, from the journals.'
complete -c ddmq -n '_shtab_ddmq_using report' -s h -l help -d 'show this help message and exit'
complete -c ddmq -n '_shtab_ddmq_using report' -s o -l output -xka "(__fish_complete_path (commandline -ct))" -d 'the page, which is there whole or not at all; - is standard output, the default'
complete -c ddmq -n '_shtab_ddmq_using report' -l since -x -d 'only what began since: 2030-01-31, 2030-01-31T12:00, or 2h: so long ago'
complete -c ddmq -n '_shtab_ddmq_using report' -l format -xka "plain json yaml csv" -d 'how to print; plain by default'
complete -c ddmq -n '_shtab_ddmq_using report' -s v -l verbose -d 'say more'
complete -c ddmq -n '_shtab_ddmq_using report' -s d -l debug -d 'say everything, and count the system calls'
complete -c ddmq -n '_shtab_ddmq_using report' -s s -l silent -d 'say errors only'
complete -c ddmq -n '_shtab_ddmq_using report; and test $_shtab_ddmq_npos -eq 0' -ka "(__fish_complete_directories)" -d 'the directory of the queues, on storage all clients share'
complete -c ddmq -n '_shtab_ddmq_using; and test $_shtab_ddmq_npos -eq 0' -a redrive -d 'Put dead letters back in line, their counts at zero.'
complete -c ddmq -n '_shtab_ddmq_using redrive' -s h -l help -d 'show this help message and exit'
complete -c ddmq -n '_shtab_ddmq_using redrive' -l key -x -d 'in place of an id: the message published with this key'
complete -c ddmq -n '_shtab_ddmq_using redrive' -l text -x -d 'in place of an id: the message with this text, or with this in its text'
complete -c ddmq -n '_shtab_ddmq_using redrive' -l reason -x -d 'only those whose reason holds this text'
complete -c ddmq -n '_shtab_ddmq_using redrive' -l code -x -d 'only those whose command ended so: 1,64-70; 128 + n stands for signal n'
complete -c ddmq -n '_shtab_ddmq_using redrive' -l format -xka "plain json yaml" -d 'how to print; plain by default'
complete -c ddmq -n '_shtab_ddmq_using redrive' -s v -l verbose -d 'say more'
complete -c ddmq -n '_shtab_ddmq_using redrive' -s d -l debug -d 'say everything, and count the system calls'
complete -c ddmq -n '_shtab_ddmq_using redrive' -s s -l silent -d 'say errors only'
complete -c ddmq -n '_shtab_ddmq_using redrive; and test $_shtab_ddmq_npos -eq 0' -ka "(__fish_complete_directories)" -d 'the directory of the queues, on storage all clients share'
complete -c ddmq -n '_shtab_ddmq_using; and test $_shtab_ddmq_npos -eq 0' -a wait -d 'Wait until nothing waits, is at work or delayed.'
complete -c ddmq -n '_shtab_ddmq_using wait' -s h -l help -d 'show this help message and exit'
complete -c ddmq -n '_shtab_ddmq_using wait' -s t -l timeout -x -d 'give up after so many seconds, with exit status 1'
complete -c ddmq -n '_shtab_ddmq_using wait' -l progress -d 'say how far it is, how fast, and when it is done; exit status 4 if messages are dead'
complete -c ddmq -n '_shtab_ddmq_using wait' -l format -xka "plain json yaml" -d 'how to print; plain by default'
complete -c ddmq -n '_shtab_ddmq_using wait' -s v -l verbose -d 'say more'
complete -c ddmq -n '_shtab_ddmq_using wait' -s d -l debug -d 'say everything, and count the system calls'
complete -c ddmq -n '_shtab_ddmq_using wait' -s s -l silent -d 'say errors only'
complete -c ddmq -n '_shtab_ddmq_using wait; and test $_shtab_ddmq_npos -eq 0' -ka "(__fish_complete_directories)" -d 'the directory of the queues, on storage all clients share'
complete -c ddmq -n '_shtab_ddmq_using; and test $_shtab_ddmq_npos -eq 0' -a config -d 'Show the settings of a queue or of the root, or change them.'
complete -c ddmq -n '_shtab_ddmq_using config' -s h -l help -d 'show this help message and exit'
complete -c ddmq -n '_shtab_ddmq_using config' -l set -x -d 'change a setting'
complete -c ddmq -n '_shtab_ddmq_using config' -l unset -x -d 'give a setting its default back'
complete -c ddmq -n '_shtab_ddmq_using config' -l lock-timeout -x -d 'seconds to wait for the lock; the setting lock_timeout by default'
complete -c ddmq -n '_shtab_ddmq_using config' -l format -xka "plain json yaml" -d 'how to print; plain by default'
complete -c ddmq -n '_shtab_ddmq_using config' -s v -l verbose -d 'say more'
complete -c ddmq -n '_shtab_ddmq_using config' -s d -l debug -d 'say everything, and count the system calls'
complete -c ddmq -n '_shtab_ddmq_using config' -s s -l silent -d 'say errors only'
complete -c ddmq -n '_shtab_ddmq_using config; and test $_shtab_ddmq_npos -eq 0' -ka "(__fish_complete_directories)" -d 'the directory of the queues, on storage all clients share'
complete -c ddmq -n '_shtab_ddmq_using; and test $_shtab_ddmq_npos -eq 0' -a check -d 'See whether a file system keeps what ddmq needs; exit status 1 when it does not.'
complete -c ddmq -n '_shtab_ddmq_using check' -s h -l help -d 'show this help message and exit'
complete -c ddmq -n '_shtab_ddmq_using check' -l clients -x -d 'wait for others that run the same command; srun and mpirun tell by themselves'
complete -c ddmq -n '_shtab_ddmq_using check' -s t -l timeout -x -d 'seconds that another client may take; 60 by default'
complete -c ddmq -n '_shtab_ddmq_using check' -l format -xka "plain json yaml" -d 'how to print; plain by default'
complete -c ddmq -n '_shtab_ddmq_using check' -s v -l verbose -d 'say more'
complete -c ddmq -n '_shtab_ddmq_using check' -s d -l debug -d 'say everything, and count the system calls'
complete -c ddmq -n '_shtab_ddmq_using check' -s s -l silent -d 'say errors only'
complete -c ddmq -n '_shtab_ddmq_using check; and test $_shtab_ddmq_npos -eq 0' -ka "(__fish_complete_directories)" -d 'a directory in which we may write'
complete -c ddmq -n '_shtab_ddmq_using check; and test $_shtab_ddmq_npos -eq 1' -ka "(__fish_complete_directories)" -d 'the same one, by another mount'
complete -c ddmq -n '_shtab_ddmq_using; and test $_shtab_ddmq_npos -eq 0' -a doctor -d 'See what is wrong with queues; exit status 1 when something is.'
complete -c ddmq -n '_shtab_ddmq_using doctor' -s h -l help -d 'show this help message and exit'
complete -c ddmq -n '_shtab_ddmq_using doctor' -l fix -d 'mend it, as the housekeeping would; no message is destroyed'
complete -c ddmq -n '_shtab_ddmq_using doctor' -l purged-after -x -d 'the age, such as 30d, at which this file system removes files: tell what is near it'
complete -c ddmq -n '_shtab_ddmq_using doctor' -l format -xka "plain json yaml" -d 'how to print; plain by default'
complete -c ddmq -n '_shtab_ddmq_using doctor' -s v -l verbose -d 'say more'
complete -c ddmq -n '_shtab_ddmq_using doctor' -s d -l debug -d 'say everything, and count the system calls'
complete -c ddmq -n '_shtab_ddmq_using doctor' -s s -l silent -d 'say errors only'
complete -c ddmq -n '_shtab_ddmq_using doctor; and test $_shtab_ddmq_npos -eq 0' -ka "(__fish_complete_directories)" -d 'the directory of the queues; without it, what a bug report needs is told'
complete -c ddmq -n '_shtab_ddmq_using; and test $_shtab_ddmq_npos -eq 0' -a json -d 'Run a command given as JSON; answer in JSON, errors too.'
complete -c ddmq -n '_shtab_ddmq_using json' -s h -l help -d 'show this help message and exit'
complete -c ddmq -n '_shtab_ddmq_using json' -s v -l verbose -d 'say more'
complete -c ddmq -n '_shtab_ddmq_using json' -s d -l debug -d 'say everything, and count the system calls'
complete -c ddmq -n '_shtab_ddmq_using json' -s s -l silent -d 'say errors only'
complete -c ddmq -n '_shtab_ddmq_using; and test $_shtab_ddmq_npos -eq 0' -a worker -d 'run a command for each message, as `ddmq-worker` does'
complete -c ddmq -n '_shtab_ddmq_using worker' -s h -l help -d 'show this, and end'
complete -c ddmq -n '_shtab_ddmq_using worker' -s v -l version -d 'show the version, also of what ddmq needs, and end'
complete -c ddmq -n '_shtab_ddmq_using worker' -l from-file -xka "(__fish_complete_path (commandline -ct))" -d 'publish each line of FILE first, as `ddmq publish --from-file` does; the same lines once only, however often that is started'
complete -c ddmq -n '_shtab_ddmq_using worker' -s f -l force -d 'with --from-file: create the root and the queue if they are missing'
complete -c ddmq -n '_shtab_ddmq_using worker' -s j -l slots -x -d 'how many commands to run at once; by default what the scheduler allocated'
complete -c ddmq -n '_shtab_ddmq_using worker' -l stdin -d 'give the text on standard input instead'
complete -c ddmq -n '_shtab_ddmq_using worker' -l batch -x -d 'give up to N messages to one command: {} becomes several arguments, with --stdin several lines; when it fails, each is run alone'
complete -c ddmq -n '_shtab_ddmq_using worker' -l persistent -d 'each slot'"'"'s command stays, gets one message after the other as lines of JSON, and answers each on descriptor 3; see `from ddmq.hpc import serve`'
complete -c ddmq -n '_shtab_ddmq_using worker' -l env -x -d 'set a variable for the commands: CUDA_VISIBLE_DEVICES={slot0}; may be repeated'
complete -c ddmq -n '_shtab_ddmq_using worker' -l bind -d 'give each slot its own share of the job'"'"'s cores; more slots than cores share them in turn'
complete -c ddmq -n '_shtab_ddmq_using worker' -l timeout -x -d 'seconds that a command may run'
complete -c ddmq -n '_shtab_ddmq_using worker' -l grace -x -d 'seconds from the request to end to SIGKILL; 10 by default'
complete -c ddmq -n '_shtab_ddmq_using worker' -l term-signal -x -d 'the signal by which a drain asks commands to end; TERM by default'
complete -c ddmq -n '_shtab_ddmq_using worker' -l on-success -x -d 'queue:NAME moves the message on to another queue of this root; lines:NAME publishes each line of what the command wrote to $DDMQ_OUTPUT there'
complete -c ddmq -n '_shtab_ddmq_using worker' -l fatal -x -d 'exit statuses that make a message a dead letter at once: 2,64-70'
complete -c ddmq -n '_shtab_ddmq_using worker' -l retry-free -x -d 'exit statuses after which it is tried again and nothing counts; 75 by default'
complete -c ddmq -n '_shtab_ddmq_using worker' -l on-exit -x -d 'move the message to another queue of this root; 128 + n stands for signal n, `timeout` for what exceeded --timeout, whatever its exit status is'
complete -c ddmq -n '_shtab_ddmq_using worker' -l retries -x -d 'a message that has no requeue_limit is tried again so often; 3 by default'
complete -c ddmq -n '_shtab_ddmq_using worker' -l backoff -x -d 'seconds until it is tried again: after the first failure, the second, ...'
complete -c ddmq -n '_shtab_ddmq_using worker' -l group -d 'print all of a command in one piece, when it ends; whole lines by default'
complete -c ddmq -n '_shtab_ddmq_using worker' -l tag -d 'print the text of the message before each line'
complete -c ddmq -n '_shtab_ddmq_using worker' -l log-dir -xka "(__fish_complete_directories)" -d 'keep what commands print there; by default it goes where the worker'"'"'s goes'
complete -c ddmq -n '_shtab_ddmq_using worker' -l logs -xka "failed all none" -d 'of which runs: failed (by default), all or none'
complete -c ddmq -n '_shtab_ddmq_using worker' -l log-limit -x -d 'of each output, keep so much (also for --group): beginning and end; 10M by default'
complete -c ddmq -n '_shtab_ddmq_using worker' -l output-dir -xka "(__fish_complete_directories)" -d 'what a command writes to $DDMQ_OUTPUT becomes DIR/<id> when it succeeded'
complete -c ddmq -n '_shtab_ddmq_using worker' -l output-name -x -d 'the result'"'"'s name in place of <id>: '"'"'{/.}.gz'"'"'; two messages never share one'
complete -c ddmq -n '_shtab_ddmq_using worker' -l wait -x -d 'linger for so many seconds when the queue is empty'
complete -c ddmq -n '_shtab_ddmq_using worker' -l until-done -d 'go on until nothing is delayed or at work anywhere either'
complete -c ddmq -n '_shtab_ddmq_using worker' -l forever -d 'never end'
complete -c ddmq -n '_shtab_ddmq_using worker' -l max-messages -x -d 'start so many at most'
complete -c ddmq -n '_shtab_ddmq_using worker' -l max-failures -x -d 'stop after so many failures, or when so many of 100 messages failed'
complete -c ddmq -n '_shtab_ddmq_using worker' -l fast-failures -x -d 'so many failures in a row within seconds: this node is broken, stop, give them back'
complete -c ddmq -n '_shtab_ddmq_using worker' -l no-brake -d 'go on though the first commands all fail: ten, or as many as there are slots'
complete -c ddmq -n '_shtab_ddmq_using worker' -l then -x -d 'when the queue is done, run this, by one of the workers that are told so: '"'"'sbatch collect.sh'"'"'; no shell'
complete -c ddmq -n '_shtab_ddmq_using worker' -l then-even-if-dead -d 'run it though there are dead letters'
complete -c ddmq -n '_shtab_ddmq_using worker' -l poll-max -x -d 'the longest pause between two looks into an empty queue; 5 by default'
complete -c ddmq -n '_shtab_ddmq_using worker' -l time -x -d 'the job ends so long after the start: seconds or [D-]HH:MM:SS'
complete -c ddmq -n '_shtab_ddmq_using worker' -l deadline -x -d 'the job ends then: 2030-01-31T12:00 or seconds since 1970; known on Slurm'
complete -c ddmq -n '_shtab_ddmq_using worker' -l min-remaining -x -d 'start nothing when less remains; by default what 95 of 100 messages needed'
complete -c ddmq -n '_shtab_ddmq_using worker' -l progress -d 'say how far the queue is, how fast, and when it is done: in the last line of a terminal, or each minute'
complete -c ddmq -n '_shtab_ddmq_using worker' -s d -l debug -d 'count the file-system calls of each kind in the last line'
complete -c ddmq -n '_shtab_ddmq_using worker' -l exit-zero -d 'exit with 0, not with 4, when some messages failed: the job has not'
complete -c ddmq -n '_shtab_ddmq_using worker; and test $_shtab_ddmq_npos -eq 0' -ka "(__fish_complete_directories)" -d 'the directory of the queues'
complete -c ddmq -n '_shtab_ddmq_using; and test $_shtab_ddmq_npos -eq 0' -a submit -d 'submit batch jobs that do so, as `ddmq-submit` does'
complete -c ddmq -n '_shtab_ddmq_using submit' -s h -l help -d 'show this, and end'
complete -c ddmq -n '_shtab_ddmq_using submit' -s v -l version -d 'show the version, also of what ddmq needs, and end'
complete -c ddmq -n '_shtab_ddmq_using submit' -l workers -x -d 'workers, each on one node; auto: enough for what waits now'
complete -c ddmq -n '_shtab_ddmq_using submit' -l max-workers -x -d 'never more than these; for auto 100 by default'
complete -c ddmq -n '_shtab_ddmq_using submit' -s j -l slots -x -d 'commands at once, and processors, for each worker'
complete -c ddmq -n '_shtab_ddmq_using submit' -l time -x -d 'the time limit of the job'
complete -c ddmq -n '_shtab_ddmq_using submit' -s o -l option -x -d 'for the scheduler: q=long is -q long; mem=4G is --mem=4G on slurm, -l mem=4G on pbs and sge; '"'"'-pe mpi 16'"'"' and the like as they are'
complete -c ddmq -n '_shtab_ddmq_using submit' -l chain -x -d 'when the time is over and messages are left, start the next job; N times at most'
complete -c ddmq -n '_shtab_ddmq_using submit' -l requeue -d 'with --chain on Slurm: requeue the job itself instead'
complete -c ddmq -n '_shtab_ddmq_using submit' -l worker -xka "(__fish_complete_path (commandline -ct))" -d 'the ddmq-worker that the job shall run'
complete -c ddmq -n '_shtab_ddmq_using submit' -l job-logs -x -d 'the directory for what the jobs print, created if missing; by default the current one'
complete -c ddmq -n '_shtab_ddmq_using submit' -l dry-run -d 'print the job script, and submit nothing'
complete -c ddmq -n '_shtab_ddmq_using submit' -l from-file -xka "(__fish_complete_path (commandline -ct))" -d 'publish each line of FILE first, as `ddmq publish --from-file` does; the same lines once only, however often that is started'
complete -c ddmq -n '_shtab_ddmq_using submit' -s f -l force -d 'with --from-file: create the root and the queue if they are missing'
complete -c ddmq -n '_shtab_ddmq_using submit' -l stdin -d 'give the text on standard input instead'
complete -c ddmq -n '_shtab_ddmq_using submit' -l batch -x -d 'give up to N messages to one command: {} becomes several arguments, with --stdin several lines; when it fails, each is run alone'
complete -c ddmq -n '_shtab_ddmq_using submit' -l persistent -d 'each slot'"'"'s command stays, gets one message after the other as lines of JSON, and answers each on descriptor 3; see `from ddmq.hpc import serve`'
complete -c ddmq -n '_shtab_ddmq_using submit' -l env -x -d 'set a variable for the commands: CUDA_VISIBLE_DEVICES={slot0}; may be repeated'
complete -c ddmq -n '_shtab_ddmq_using submit' -l bind -d 'give each slot its own share of the job'"'"'s cores; more slots than cores share them in turn'
complete -c ddmq -n '_shtab_ddmq_using submit' -l timeout -x -d 'seconds that a command may run'
complete -c ddmq -n '_shtab_ddmq_using submit' -l grace -x -d 'seconds from the request to end to SIGKILL; 10 by default'
complete -c ddmq -n '_shtab_ddmq_using submit' -l term-signal -x -d 'the signal by which a drain asks commands to end; TERM by default'
complete -c ddmq -n '_shtab_ddmq_using submit' -l on-success -x -d 'queue:NAME moves the message on to another queue of this root; lines:NAME publishes each line of what the command wrote to $DDMQ_OUTPUT there'
complete -c ddmq -n '_shtab_ddmq_using submit' -l fatal -x -d 'exit statuses that make a message a dead letter at once: 2,64-70'
complete -c ddmq -n '_shtab_ddmq_using submit' -l retry-free -x -d 'exit statuses after which it is tried again and nothing counts; 75 by default'
complete -c ddmq -n '_shtab_ddmq_using submit' -l on-exit -x -d 'move the message to another queue of this root; 128 + n stands for signal n, `timeout` for what exceeded --timeout, whatever its exit status is'
complete -c ddmq -n '_shtab_ddmq_using submit' -l retries -x -d 'a message that has no requeue_limit is tried again so often; 3 by default'
complete -c ddmq -n '_shtab_ddmq_using submit' -l backoff -x -d 'seconds until it is tried again: after the first failure, the second, ...'
complete -c ddmq -n '_shtab_ddmq_using submit' -l group -d 'print all of a command in one piece, when it ends; whole lines by default'
complete -c ddmq -n '_shtab_ddmq_using submit' -l tag -d 'print the text of the message before each line'
complete -c ddmq -n '_shtab_ddmq_using submit' -l log-dir -xka "(__fish_complete_directories)" -d 'keep what commands print there; by default it goes where the worker'"'"'s goes'
complete -c ddmq -n '_shtab_ddmq_using submit' -l logs -xka "failed all none" -d 'of which runs: failed (by default), all or none'
complete -c ddmq -n '_shtab_ddmq_using submit' -l log-limit -x -d 'of each output, keep so much (also for --group): beginning and end; 10M by default'
complete -c ddmq -n '_shtab_ddmq_using submit' -l output-dir -xka "(__fish_complete_directories)" -d 'what a command writes to $DDMQ_OUTPUT becomes DIR/<id> when it succeeded'
complete -c ddmq -n '_shtab_ddmq_using submit' -l output-name -x -d 'the result'"'"'s name in place of <id>: '"'"'{/.}.gz'"'"'; two messages never share one'
complete -c ddmq -n '_shtab_ddmq_using submit' -l wait -x -d 'linger for so many seconds when the queue is empty'
complete -c ddmq -n '_shtab_ddmq_using submit' -l until-done -d 'go on until nothing is delayed or at work anywhere either'
complete -c ddmq -n '_shtab_ddmq_using submit' -l forever -d 'never end'
complete -c ddmq -n '_shtab_ddmq_using submit' -l max-messages -x -d 'start so many at most'
complete -c ddmq -n '_shtab_ddmq_using submit' -l max-failures -x -d 'stop after so many failures, or when so many of 100 messages failed'
complete -c ddmq -n '_shtab_ddmq_using submit' -l fast-failures -x -d 'so many failures in a row within seconds: this node is broken, stop, give them back'
complete -c ddmq -n '_shtab_ddmq_using submit' -l no-brake -d 'go on though the first commands all fail: ten, or as many as there are slots'
complete -c ddmq -n '_shtab_ddmq_using submit' -l then -x -d 'when the queue is done, run this, by one of the workers that are told so: '"'"'sbatch collect.sh'"'"'; no shell'
complete -c ddmq -n '_shtab_ddmq_using submit' -l then-even-if-dead -d 'run it though there are dead letters'
complete -c ddmq -n '_shtab_ddmq_using submit' -l poll-max -x -d 'the longest pause between two looks into an empty queue; 5 by default'
complete -c ddmq -n '_shtab_ddmq_using submit' -l deadline -x -d 'the job ends then: 2030-01-31T12:00 or seconds since 1970; known on Slurm'
complete -c ddmq -n '_shtab_ddmq_using submit' -l min-remaining -x -d 'start nothing when less remains; by default what 95 of 100 messages needed'
complete -c ddmq -n '_shtab_ddmq_using submit' -l progress -d 'say how far the queue is, how fast, and when it is done: in the last line of a terminal, or each minute'
complete -c ddmq -n '_shtab_ddmq_using submit' -s d -l debug -d 'count the file-system calls of each kind in the last line'
complete -c ddmq -n '_shtab_ddmq_using submit' -l exit-zero -d 'exit with 0, not with 4, when some messages failed: the job has not'
complete -c ddmq -n '_shtab_ddmq_using submit; and test $_shtab_ddmq_npos -eq 0' -ka "slurm pbs sge" -d 'slurm, pbs or sge'
complete -c ddmq -n '_shtab_ddmq_using submit; and test $_shtab_ddmq_npos -eq 1' -ka "(__fish_complete_directories)" -d 'the directory of the queues'
complete -c ddmq -n '_shtab_ddmq_using; and test $_shtab_ddmq_npos -eq 0' -a help -d 'show this, or the help of a command'
complete -c ddmq -n '_shtab_ddmq_using help' -s h -l help -d 'show this help message and exit'
complete -c ddmq -n '_shtab_ddmq_using help; and test $_shtab_ddmq_npos -eq 0' -ka "view workers peek show status create delete publish forget consume ack nack release reject renew move cancel pause resume drain purge clean export import migrate dead log results report redrive wait config check doctor json worker submit help" -d COMMAND

# Completion of ddmq-worker, made by packaging/completion.py.

# Parse current commandline:
# - _shtab_ddmqworker_cmdpath=(sub)command path seen so far
# - _shtab_ddmqworker_npos=number of positional arguments given after it
# - options are skipped based on _shtab_ddmqworker_opts_with_value & _shtab_ddmqworker_commands lists
function _shtab_ddmqworker_scan
  set -g _shtab_ddmqworker_cmdpath ''
  set -g _shtab_ddmqworker_npos 0
  set -l tokens (commandline -opc)
  set -e tokens[1]
  set -l expect_value 0
  for t in $tokens
    if test $expect_value -eq 1
      set expect_value 0
      continue
    end
    switch "$t"
      case '--*=*'
        continue
      case '-*'
        if contains -- $t $_shtab_ddmqworker_opts_with_value
          set expect_value 1
        end
        continue
      case '*'
        if test $_shtab_ddmqworker_npos -eq 0
          set -l candidate $t
          if test -n "$_shtab_ddmqworker_cmdpath"
            set candidate "$_shtab_ddmqworker_cmdpath $t"
          end
          if contains -- $candidate $_shtab_ddmqworker_commands
            set -g _shtab_ddmqworker_cmdpath $candidate
            continue
          end
        end
        set -g _shtab_ddmqworker_npos (math $_shtab_ddmqworker_npos + 1)
    end
  end
end

# Condition helper: true if the current (sub)command path equals the given one.
function _shtab_ddmqworker_using
  _shtab_ddmqworker_scan
  test "$_shtab_ddmqworker_cmdpath" = "$argv"
end

set -g _shtab_ddmqworker_commands 
set -g _shtab_ddmqworker_opts_with_value --backoff --batch --deadline --env --fast-failures --fatal --from-file --grace --log-dir --log-limit --logs --max-failures --max-messages --min-remaining --on-exit --on-success --output-dir --output-name --poll-max --retries --retry-free --slots --term-signal --then --time --timeout --wait -j

complete -c ddmq-worker -e
complete -c ddmq-worker -f

complete -c ddmq-worker -n _shtab_ddmqworker_using -s h -l help -d 'show this, and end'
complete -c ddmq-worker -n _shtab_ddmqworker_using -s v -l version -d 'show the version, also of what ddmq needs, and end'
complete -c ddmq-worker -n _shtab_ddmqworker_using -l from-file -xka "(__fish_complete_path (commandline -ct))" -d 'publish each line of FILE first, as `ddmq publish --from-file` does; the same lines once only, however often that is started'
complete -c ddmq-worker -n _shtab_ddmqworker_using -s f -l force -d 'with --from-file: create the root and the queue if they are missing'
complete -c ddmq-worker -n _shtab_ddmqworker_using -s j -l slots -x -d 'how many commands to run at once; by default what the scheduler allocated'
complete -c ddmq-worker -n _shtab_ddmqworker_using -l stdin -d 'give the text on standard input instead'
complete -c ddmq-worker -n _shtab_ddmqworker_using -l batch -x -d 'give up to N messages to one command: {} becomes several arguments, with --stdin several lines; when it fails, each is run alone'
complete -c ddmq-worker -n _shtab_ddmqworker_using -l persistent -d 'each slot'"'"'s command stays, gets one message after the other as lines of JSON, and answers each on descriptor 3; see `from ddmq.hpc import serve`'
complete -c ddmq-worker -n _shtab_ddmqworker_using -l env -x -d 'set a variable for the commands: CUDA_VISIBLE_DEVICES={slot0}; may be repeated'
complete -c ddmq-worker -n _shtab_ddmqworker_using -l bind -d 'give each slot its own share of the job'"'"'s cores; more slots than cores share them in turn'
complete -c ddmq-worker -n _shtab_ddmqworker_using -l timeout -x -d 'seconds that a command may run'
complete -c ddmq-worker -n _shtab_ddmqworker_using -l grace -x -d 'seconds from the request to end to SIGKILL; 10 by default'
complete -c ddmq-worker -n _shtab_ddmqworker_using -l term-signal -x -d 'the signal by which a drain asks commands to end; TERM by default'
complete -c ddmq-worker -n _shtab_ddmqworker_using -l on-success -x -d 'queue:NAME moves the message on to another queue of this root; lines:NAME publishes each line of what the command wrote to $DDMQ_OUTPUT there'
complete -c ddmq-worker -n _shtab_ddmqworker_using -l fatal -x -d 'exit statuses that make a message a dead letter at once: 2,64-70'
complete -c ddmq-worker -n _shtab_ddmqworker_using -l retry-free -x -d 'exit statuses after which it is tried again and nothing counts; 75 by default'
complete -c ddmq-worker -n _shtab_ddmqworker_using -l on-exit -x -d 'move the message to another queue of this root; 128 + n stands for signal n, `timeout` for what exceeded --timeout, whatever its exit status is'
complete -c ddmq-worker -n _shtab_ddmqworker_using -l retries -x -d 'a message that has no requeue_limit is tried again so often; 3 by default'
complete -c ddmq-worker -n _shtab_ddmqworker_using -l backoff -x -d 'seconds until it is tried again: after the first failure, the second, ...'
complete -c ddmq-worker -n _shtab_ddmqworker_using -l group -d 'print all of a command in one piece, when it ends; whole lines by default'
complete -c ddmq-worker -n _shtab_ddmqworker_using -l tag -d 'print the text of the message before each line'
complete -c ddmq-worker -n _shtab_ddmqworker_using -l log-dir -xka "(__fish_complete_directories)" -d 'keep what commands print there; by default it goes where the worker'"'"'s goes'
complete -c ddmq-worker -n _shtab_ddmqworker_using -l logs -xka "failed all none" -d 'of which runs: failed (by default), all or none'
complete -c ddmq-worker -n _shtab_ddmqworker_using -l log-limit -x -d 'of each output, keep so much (also for --group): beginning and end; 10M by default'
complete -c ddmq-worker -n _shtab_ddmqworker_using -l output-dir -xka "(__fish_complete_directories)" -d 'what a command writes to $DDMQ_OUTPUT becomes DIR/<id> when it succeeded'
complete -c ddmq-worker -n _shtab_ddmqworker_using -l output-name -x -d 'the result'"'"'s name in place of <id>: '"'"'{/.}.gz'"'"'; two messages never share one'
complete -c ddmq-worker -n _shtab_ddmqworker_using -l wait -x -d 'linger for so many seconds when the queue is empty'
complete -c ddmq-worker -n _shtab_ddmqworker_using -l until-done -d 'go on until nothing is delayed or at work anywhere either'
complete -c ddmq-worker -n _shtab_ddmqworker_using -l forever -d 'never end'
complete -c ddmq-worker -n _shtab_ddmqworker_using -l max-messages -x -d 'start so many at most'
complete -c ddmq-worker -n _shtab_ddmqworker_using -l max-failures -x -d 'stop after so many failures, or when so many of 100 messages failed'
complete -c ddmq-worker -n _shtab_ddmqworker_using -l fast-failures -x -d 'so many failures in a row within seconds: this node is broken, stop, give them back'
complete -c ddmq-worker -n _shtab_ddmqworker_using -l no-brake -d 'go on though the first commands all fail: ten, or as many as there are slots'
complete -c ddmq-worker -n _shtab_ddmqworker_using -l then -x -d 'when the queue is done, run this, by one of the workers that are told so: '"'"'sbatch collect.sh'"'"'; no shell'
complete -c ddmq-worker -n _shtab_ddmqworker_using -l then-even-if-dead -d 'run it though there are dead letters'
complete -c ddmq-worker -n _shtab_ddmqworker_using -l poll-max -x -d 'the longest pause between two looks into an empty queue; 5 by default'
complete -c ddmq-worker -n _shtab_ddmqworker_using -l time -x -d 'the job ends so long after the start: seconds or [D-]HH:MM:SS'
complete -c ddmq-worker -n _shtab_ddmqworker_using -l deadline -x -d 'the job ends then: 2030-01-31T12:00 or seconds since 1970; known on Slurm'
complete -c ddmq-worker -n _shtab_ddmqworker_using -l min-remaining -x -d 'start nothing when less remains; by default what 95 of 100 messages needed'
complete -c ddmq-worker -n _shtab_ddmqworker_using -l progress -d 'say how far the queue is, how fast, and when it is done: in the last line of a terminal, or each minute'
complete -c ddmq-worker -n _shtab_ddmqworker_using -s d -l debug -d 'count the file-system calls of each kind in the last line'
complete -c ddmq-worker -n _shtab_ddmqworker_using -l exit-zero -d 'exit with 0, not with 4, when some messages failed: the job has not'
complete -c ddmq-worker -n '_shtab_ddmqworker_using; and test $_shtab_ddmqworker_npos -eq 0' -ka "(__fish_complete_directories)" -d 'the directory of the queues'

# Completion of ddmq-submit, made by packaging/completion.py.

# Parse current commandline:
# - _shtab_ddmqsubmit_cmdpath=(sub)command path seen so far
# - _shtab_ddmqsubmit_npos=number of positional arguments given after it
# - options are skipped based on _shtab_ddmqsubmit_opts_with_value & _shtab_ddmqsubmit_commands lists
function _shtab_ddmqsubmit_scan
  set -g _shtab_ddmqsubmit_cmdpath ''
  set -g _shtab_ddmqsubmit_npos 0
  set -l tokens (commandline -opc)
  set -e tokens[1]
  set -l expect_value 0
  for t in $tokens
    if test $expect_value -eq 1
      set expect_value 0
      continue
    end
    switch "$t"
      case '--*=*'
        continue
      case '-*'
        if contains -- $t $_shtab_ddmqsubmit_opts_with_value
          set expect_value 1
        end
        continue
      case '*'
        if test $_shtab_ddmqsubmit_npos -eq 0
          set -l candidate $t
          if test -n "$_shtab_ddmqsubmit_cmdpath"
            set candidate "$_shtab_ddmqsubmit_cmdpath $t"
          end
          if contains -- $candidate $_shtab_ddmqsubmit_commands
            set -g _shtab_ddmqsubmit_cmdpath $candidate
            continue
          end
        end
        set -g _shtab_ddmqsubmit_npos (math $_shtab_ddmqsubmit_npos + 1)
    end
  end
end

# Condition helper: true if the current (sub)command path equals the given one.
function _shtab_ddmqsubmit_using
  _shtab_ddmqsubmit_scan
  test "$_shtab_ddmqsubmit_cmdpath" = "$argv"
end

set -g _shtab_ddmqsubmit_commands 
set -g _shtab_ddmqsubmit_opts_with_value --backoff --batch --chain --deadline --env --fast-failures --fatal --from-file --grace --job-logs --log-dir --log-limit --logs --max-failures --max-messages --max-workers --min-remaining --on-exit --on-success --option --output-dir --output-name --poll-max --retries --retry-free --slots --term-signal --then --time --timeout --wait --worker --workers -j -o

complete -c ddmq-submit -e
complete -c ddmq-submit -f

complete -c ddmq-submit -n _shtab_ddmqsubmit_using -s h -l help -d 'show this, and end'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -s v -l version -d 'show the version, also of what ddmq needs, and end'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l workers -x -d 'workers, each on one node; auto: enough for what waits now'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l max-workers -x -d 'never more than these; for auto 100 by default'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -s j -l slots -x -d 'commands at once, and processors, for each worker'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l time -x -d 'the time limit of the job'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -s o -l option -x -d 'for the scheduler: q=long is -q long; mem=4G is --mem=4G on slurm, -l mem=4G on pbs and sge; '"'"'-pe mpi 16'"'"' and the like as they are'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l chain -x -d 'when the time is over and messages are left, start the next job; N times at most'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l requeue -d 'with --chain on Slurm: requeue the job itself instead'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l worker -xka "(__fish_complete_path (commandline -ct))" -d 'the ddmq-worker that the job shall run'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l job-logs -x -d 'the directory for what the jobs print, created if missing; by default the current one'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l dry-run -d 'print the job script, and submit nothing'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l from-file -xka "(__fish_complete_path (commandline -ct))" -d 'publish each line of FILE first, as `ddmq publish --from-file` does; the same lines once only, however often that is started'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -s f -l force -d 'with --from-file: create the root and the queue if they are missing'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l stdin -d 'give the text on standard input instead'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l batch -x -d 'give up to N messages to one command: {} becomes several arguments, with --stdin several lines; when it fails, each is run alone'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l persistent -d 'each slot'"'"'s command stays, gets one message after the other as lines of JSON, and answers each on descriptor 3; see `from ddmq.hpc import serve`'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l env -x -d 'set a variable for the commands: CUDA_VISIBLE_DEVICES={slot0}; may be repeated'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l bind -d 'give each slot its own share of the job'"'"'s cores; more slots than cores share them in turn'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l timeout -x -d 'seconds that a command may run'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l grace -x -d 'seconds from the request to end to SIGKILL; 10 by default'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l term-signal -x -d 'the signal by which a drain asks commands to end; TERM by default'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l on-success -x -d 'queue:NAME moves the message on to another queue of this root; lines:NAME publishes each line of what the command wrote to $DDMQ_OUTPUT there'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l fatal -x -d 'exit statuses that make a message a dead letter at once: 2,64-70'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l retry-free -x -d 'exit statuses after which it is tried again and nothing counts; 75 by default'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l on-exit -x -d 'move the message to another queue of this root; 128 + n stands for signal n, `timeout` for what exceeded --timeout, whatever its exit status is'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l retries -x -d 'a message that has no requeue_limit is tried again so often; 3 by default'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l backoff -x -d 'seconds until it is tried again: after the first failure, the second, ...'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l group -d 'print all of a command in one piece, when it ends; whole lines by default'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l tag -d 'print the text of the message before each line'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l log-dir -xka "(__fish_complete_directories)" -d 'keep what commands print there; by default it goes where the worker'"'"'s goes'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l logs -xka "failed all none" -d 'of which runs: failed (by default), all or none'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l log-limit -x -d 'of each output, keep so much (also for --group): beginning and end; 10M by default'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l output-dir -xka "(__fish_complete_directories)" -d 'what a command writes to $DDMQ_OUTPUT becomes DIR/<id> when it succeeded'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l output-name -x -d 'the result'"'"'s name in place of <id>: '"'"'{/.}.gz'"'"'; two messages never share one'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l wait -x -d 'linger for so many seconds when the queue is empty'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l until-done -d 'go on until nothing is delayed or at work anywhere either'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l forever -d 'never end'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l max-messages -x -d 'start so many at most'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l max-failures -x -d 'stop after so many failures, or when so many of 100 messages failed'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l fast-failures -x -d 'so many failures in a row within seconds: this node is broken, stop, give them back'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l no-brake -d 'go on though the first commands all fail: ten, or as many as there are slots'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l then -x -d 'when the queue is done, run this, by one of the workers that are told so: '"'"'sbatch collect.sh'"'"'; no shell'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l then-even-if-dead -d 'run it though there are dead letters'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l poll-max -x -d 'the longest pause between two looks into an empty queue; 5 by default'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l deadline -x -d 'the job ends then: 2030-01-31T12:00 or seconds since 1970; known on Slurm'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l min-remaining -x -d 'start nothing when less remains; by default what 95 of 100 messages needed'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l progress -d 'say how far the queue is, how fast, and when it is done: in the last line of a terminal, or each minute'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -s d -l debug -d 'count the file-system calls of each kind in the last line'
complete -c ddmq-submit -n _shtab_ddmqsubmit_using -l exit-zero -d 'exit with 0, not with 4, when some messages failed: the job has not'
complete -c ddmq-submit -n '_shtab_ddmqsubmit_using; and test $_shtab_ddmqsubmit_npos -eq 0' -ka "slurm pbs sge" -d 'slurm, pbs or sge'
complete -c ddmq-submit -n '_shtab_ddmqsubmit_using; and test $_shtab_ddmqsubmit_npos -eq 1' -ka "(__fish_complete_directories)" -d 'the directory of the queues'
