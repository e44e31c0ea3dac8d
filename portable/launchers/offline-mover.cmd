@echo off
rem Starts the offline mover with the Python beside it, else with the first one installed that it runs with.
setlocal DisableDelayedExpansion
rem Not with something called python in the current folder, which may be on a medium.
set "NoDefaultCurrentDirectoryInExePath=1"
set "start=%~dp0__main__.py"
if exist "%~dp0python\python.exe" goto carried
set "fits=import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))"
set "python="
for %%p in ("py -3.14" "py -3.13" "py -3.12" "py -3.11" "python" "python3") do (
  if not defined python call :try %%p
)
if defined python goto installed
echo offline-mover: no Python 3.11, 3.12, 3.13 or 3.14 was found on this machine. 1>&2
exit /b 2
:try
%~1 -I -S -c "%fits%" >nul 2>nul
if not errorlevel 1 set "python=%~1"
exit /b 0
:installed
%python% -I -S "%start%" %*
exit /b %errorlevel%
:carried
"%~dp0python\python.exe" -I -S "%start%" %*
exit /b %errorlevel%
