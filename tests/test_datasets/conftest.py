import cv2
import pytest


@pytest.fixture(autouse=True, scope='session')
def one_opencv_thread():
    """The pictures are small: threads cost more than they gain, much more on a busy machine."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(before)
