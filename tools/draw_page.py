"""A screenshot of the page of `make demo` for the README, taken in Chromium.

    python -m tools.draw_page

Needs Chromium and its driver (Debian: apt-get install chromium chromium-driver).
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from matplotlib.cbook import get_sample_data
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from facial_keypoints import demo
from facial_keypoints.pipeline import FacePipeline

IMAGES = Path(__file__).resolve().parent.parent / "images"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
PATIENCE = 60  # seconds


@contextmanager
def served(pipeline: FacePipeline) -> Iterator[str]:
    """The address of the page, served by this process for as long as the context lasts."""
    page = demo.serve(pipeline)
    try:
        yield page.local_url
    finally:
        page.close()


class Visitor:
    """A user with a browser window of their own; a context that closes it.

    downloads: the folder for downloads; camera: an .mjpeg file that Chromium uses instead of a camera.
    """

    def __init__(self, address: str, downloads: Path | None = None, camera: Path | None = None):
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "window-size=1100,870"):
            options.add_argument(f"--{argument}")
        options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
        if camera:
            options.add_argument("--use-fake-ui-for-media-stream")
            options.add_argument("--use-fake-device-for-media-stream")
            options.add_argument(f"--use-file-for-fake-video-capture={camera}")
        self.browser = webdriver.Chrome(options=options, service=Service(DRIVER))
        self.browser.get(address)

    def drop(self, path: Path) -> None:
        """Choose a file, in place of the previous one."""
        self.wait_for("#file input[type=file], #file button[aria-label=Clear]")  # until the page has loaded
        if not self.browser.find_elements(By.CSS_SELECTOR, "#file input[type=file]"):
            self.wait_for("#file button[aria-label=Clear]").click()
        self.wait_for("#file input[type=file]").send_keys(str(path))

    def click(self, words: str) -> None:
        """Click the button or label with these words."""
        self.wait_for("button:not([disabled]), label", words, seen=True).click()

    def wait_for(self, selector: str, words: str = "", seen: bool = False):
        """The first element of the selector with these words in it, once it exists (and is visible, if `seen`)."""

        def found(browser):
            for some in browser.find_elements(By.CSS_SELECTOR, selector):
                if words in some.text and (some.is_displayed() or not seen):
                    return some

        wait = WebDriverWait(self.browser, PATIENCE, ignored_exceptions=[Exception])
        return wait.until(found, f"{selector} {words}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.browser.quit()


def main() -> None:
    """Write images/page.png."""
    with served(FacePipeline(threads=1)) as address, Visitor(address) as visitor:
        visitor.drop(get_sample_data("grace_hopper.jpg", asfileobj=False))
        visitor.wait_for("#text", "%")
        visitor.click("sunglasses")
        WebDriverWait(visitor.browser, PATIENCE).until(
            lambda browser: "sunglasses" in browser.find_element(By.CSS_SELECTOR, "#picture img").get_attribute("src")
        )
        with tempfile.NamedTemporaryFile(suffix=".png") as shot:
            visitor.browser.save_screenshot(shot.name)
            picture = Image.open(shot.name).convert("RGB").quantize(method=Image.Quantize.FASTOCTREE)
            picture.save(IMAGES / "page.png", optimize=True)
    print(f"written: {IMAGES / 'page.png'}")


if __name__ == "__main__":
    main()
