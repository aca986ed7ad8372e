"""Headless Chromium by its DevTools protocol, over a pipe: what a page does where people look at it."""
import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time

NAMES = ('chromium', 'chromium-browser', 'chromium-headless-shell', 'google-chrome', 'google-chrome-stable', 'chrome')


def find_chromium() -> str | None:
    """The program: the one in the variable CHROMIUM, or any on the path."""
    return os.environ.get('CHROMIUM') or next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """A tab of a Chromium started for it, as a context.

    Args:
        profile (Path): Folder for its files.
    """

    def __init__(self, profile):
        self.profile, self.events, self.number, self.session, self.received = profile, [], 0, None, b''

    def __enter__(self):
        # Chromium reads commands at file descriptor 3 and answers at 4.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for pipe in (os.pipe(), os.pipe()) for end in pipe]
        its_in, self.out, self.into, its_out = ends

        def connect():
            os.dup2(its_in, 3)
            os.dup2(its_out, 4)

        # As root, and in containers, its sandbox cannot start; it opens files of our own alone.
        self.process = subprocess.Popen(
            [find_chromium(), '--headless', '--remote-debugging-pipe', '--no-sandbox', '--disable-gpu',
             '--disable-dev-shm-usage', '--no-first-run', f'--user-data-dir={self.profile}'],
            pass_fds=(3, 4), preexec_fn=connect, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(its_in)
        os.close(its_out)
        target = self.call('Target.createTarget', url='about:blank')['targetId']
        self.session = self.call('Target.attachToTarget', targetId=target, flatten=True)['sessionId']
        for domain in ('Page', 'Runtime', 'Log', 'Network'):
            self.call(f'{domain}.enable')
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        os.close(self.out)
        os.close(self.into)

    def call(self, method, **params):
        """The result of a method of the protocol; events that come before it are kept."""
        self.number += 1
        message = dict(id=self.number, method=method, params=params)
        if self.session:
            message['sessionId'] = self.session
        os.write(self.out, json.dumps(message).encode() + b'\0')
        while (answer := self._receive()).get('id') != self.number:
            pass
        if 'error' in answer:
            raise RuntimeError(f'{method}: {answer["error"]["message"]}')
        return answer['result']

    def _receive(self, seconds=60):
        end = time.monotonic() + seconds
        while b'\0' not in self.received:
            if not select.select([self.into], [], [], max(0, end - time.monotonic()))[0]:
                raise TimeoutError(f'Chromium gave no answer in {seconds} s')
            data = os.read(self.into, 1 << 20)
            if not data:
                raise RuntimeError(f'Chromium ended with exit code {self.process.wait()}')
            self.received += data
        line, self.received = self.received.split(b'\0', 1)
        message = json.loads(line)
        if 'method' in message:
            self.events.append(message)
        return message

    def open(self, path):
        """Open a file, and wait until it is there."""
        self.call('Page.navigate', url=path.absolute().as_uri())
        while not self.evaluate('location.protocol == "file:" && document.readyState == "complete"'):
            time.sleep(.05)

    def evaluate(self, expression):
        """The value of an expression of JavaScript."""
        answer = self.call('Runtime.evaluate', expression=expression, returnByValue=True)
        if 'exceptionDetails' in answer:
            raise RuntimeError(answer['exceptionDetails']['exception']['description'])
        return answer['result'].get('value')

    def press(self, key, code, text=''):
        """A key, by its name, its Windows code and the text that it gives."""
        for kind in ('keyDown', 'keyUp'):
            self.call('Input.dispatchKeyEvent', type=kind, key=key, code=key, windowsVirtualKeyCode=code, text=text)

    def size(self, width, height=800, mobile=False):
        """Size of the window in CSS px."""
        self.call('Emulation.setDeviceMetricsOverride', width=width, height=height, deviceScaleFactor=1, mobile=mobile)

    def prefer(self, scheme, media='screen'):
        """'light' or 'dark'; `media` may be 'print'."""
        self.call('Emulation.setEmulatedMedia', media=media, features=[dict(name='prefers-color-scheme', value=scheme)])

    def print(self, path):
        """As PDF."""
        path.write_bytes(base64.b64decode(self.call('Page.printToPDF', printBackground=True)['data']))

    @property
    def overflow(self):
        """By how much the page is wider than the window, in CSS px."""
        return self.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth')

    @property
    def complaints(self):
        """Errors and warnings of the console, and addresses asked for that are not in the file."""
        found = []
        for event in self.events:
            params = event['params']
            if event['method'] == 'Runtime.exceptionThrown':
                found.append(params['exceptionDetails']['exception']['description'])
            elif event['method'] == 'Runtime.consoleAPICalled':
                found.append(f'console: {params["args"]}')
            elif event['method'] == 'Log.entryAdded':
                found.append(params['entry']['text'])
            elif event['method'] == 'Network.requestWillBeSent' and not params['request']['url'].startswith(
                    ('data:', 'file:')):
                found.append(params['request']['url'])
        return found
