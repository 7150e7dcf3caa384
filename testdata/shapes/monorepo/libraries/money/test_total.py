import importlib.util
import pathlib
import unittest

path = pathlib.Path(__file__).with_name("__init__.py")
spec = importlib.util.spec_from_file_location("money", path)
money = importlib.util.module_from_spec(spec)
spec.loader.exec_module(money)


class Total(unittest.TestCase):
    def test_nothing_is_rounded(self):
        self.assertEqual(str(money.total(["0.1", "0.2"])), "0.3")
