# escape=`
FROM mcr.microsoft.com/windows/servercore:ltsc2022
SHELL ["powershell", "-Command", "$ErrorActionPreference = 'Stop';"]
ENV TOOL_VERSION=1.2.3
RUN Invoke-WebRequest -Uri https://example.org/tool.zip -OutFile C:\tool.zip; `
    Expand-Archive C:\tool.zip -DestinationPath C:\; `
    Remove-Item C:\tool.zip
WORKDIR C:\app
COPY app.exe .
CMD ["app.exe"]
