-- A module file for Lmod. Its name is the version: copy it once for each version that is installed.
--
-- Install ddmq so that only its own commands are on the PATH, not another python3:
--
--     python3 -m venv /opt/ddmq/1.0.0/venv
--     /opt/ddmq/1.0.0/venv/bin/pip install ddmq-1.0.0-py3-none-any.whl
--     mkdir /opt/ddmq/1.0.0/bin
--     ln -s ../venv/bin/ddmq ../venv/bin/ddmq-worker ../venv/bin/ddmq-submit /opt/ddmq/1.0.0/bin/
--     ln -s venv/share /opt/ddmq/1.0.0/share
--
-- Then copy the folder `ddmq` with this file to a directory of MODULEPATH, and edit /opt/ddmq.
help([[
ddmq, a message queue made of files: no server, one directory per queue.
First: ddmq check DIR, a directory on the file system that the queues are to be in.
Then: man ddmq, man ddmq-worker, man ddmq-submit.
]])
whatis("Name: ddmq")
whatis("Description: a message queue made of files, for clusters; no server")
whatis("Keywords: queue, workflow, job array")
prepend_path("PATH", pathJoin("/opt/ddmq", myModuleVersion(), "bin"))
-- No MANPATH, which would hide all other pages where it was empty: man looks beside each bin.
