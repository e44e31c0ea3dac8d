@echo off
rem Starts the offline mover with the Python beside it, else with one that is installed.
setlocal DisableDelayedExpansion
set "start=%~dp0__main__.py"
if exist "%~dp0python\python.exe" (
  "%~dp0python\python.exe" -I -S "%start%" %*
  goto :end
)
for %%v in (3.14 3.13 3.12 3.11) do (
  py -%%v -c "" >nul 2>nul && (
    py -%%v -I -S "%start%" %*
    goto :end
  )
)
python -c "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))" >nul 2>nul && (
  python -I -S "%start%" %*
  goto :end
)
echo offline-mover: no Python 3.11, 3.12, 3.13 or 3.14 was found on this machine. 1>&2
exit /b 2
:end
exit /b %errorlevel%
